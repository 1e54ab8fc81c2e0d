import numpy as np
import numpy.typing as npt
import pytest
import torch

from study.training import metrics
from study.training.metrics import Recall, recall_at_k, recall_on_device

Embeddings = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def slow_recall(embeddings: Embeddings, labels: Labels, k: int) -> float:
    """Written from the definition: sort all others by cosine, look at the first k."""
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    hits = 0
    for query in range(len(unit)):
        others = [other for other in range(len(unit)) if other != query]
        others.sort(key=lambda other: -float(unit[query] @ unit[other]))
        hits += any(labels[other] == labels[query] for other in others[:k])
    return hits / len(unit)


@pytest.mark.parametrize("seed", range(5))
def test_recall_is_what_sorting_all_others_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(80, 5)).astype(np.float32)
    labels = rng.integers(0, 9, size=80)
    recall = recall_at_k(embeddings, labels, (1, 2, 4, 8))
    assert recall.at == {k: slow_recall(embeddings, labels, k) for k in (1, 2, 4, 8)}


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 5, size=50)
    whole = recall_at_k(embeddings, labels, (1, 4))
    monkeypatch.setattr(metrics, "_QUERIES_PER_BLOCK", 7)
    blocks = recall_at_k(embeddings, labels, (1, 4))
    assert blocks.at == whole.at
    assert (blocks.class_hits == whole.class_hits).all()


def test_a_duplicate_is_a_neighbour_and_the_query_itself_is_not() -> None:
    # Each of two duplicates finds the other at cosine 1; leaving out by distance would leave out both.
    embeddings = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    assert recall_at_k(embeddings, np.array([0, 0, 1, 2]), (1,)).at == {1: 0.5}
    assert recall_at_k(embeddings, np.array([0, 1, 0, 2]), (1,)).at == {1: 0.0}


@pytest.mark.parametrize("n", [5, 60])
def test_collapsed_embeddings_of_one_class_all_hit_and_of_single_classes_all_miss(n: int) -> None:
    collapsed = np.ones((n, 4), dtype=np.float32)
    assert recall_at_k(collapsed, np.zeros(n, dtype=np.int64), (1, 2)).at == {1: 1.0, 2: 1.0}
    assert recall_at_k(collapsed, np.arange(n), (1, 2, 4)).at == {1: 0.0, 2: 0.0, 4: 0.0}


def test_under_ties_a_query_still_has_k_neighbours() -> None:
    # Ten images at one point: whichever neighbours are chosen, all but one of each query's others are of its class.
    labels = np.array([0] * 9 + [1])
    assert recall_at_k(np.ones((10, 2), dtype=np.float32), labels, (2,)).at == {2: 0.9}


def test_the_query_is_left_out_by_index_and_else_the_last_neighbour() -> None:
    found = np.array([[3, 0, 7], [7, 1, 2], [5, 6, 7]])
    assert metrics._without_self(found, np.array([3, 2, 4])).tolist() == [[0, 7], [7, 1], [5, 6]]


def test_an_image_alone_in_its_class_is_a_miss() -> None:
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    recall = recall_at_k(embeddings, np.array([0, 0, 1]), (1, 2))
    assert recall.at == {1: 2 / 3, 2: 2 / 3}
    assert recall.class_hits.tolist() == [2, 0]
    assert recall.class_images.tolist() == [2, 1]


def test_k_beyond_the_number_of_others_takes_them_all() -> None:
    embeddings = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    assert recall_at_k(embeddings, np.array([0, 0, 1]), (1, 2, 50)).at == {1: 0.0, 2: 2 / 3, 50: 2 / 3}


def test_length_of_an_embedding_is_no_matter_and_the_input_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 4, size=40)
    before = embeddings.copy()
    longer = embeddings * rng.uniform(0.1, 10, size=(40, 1)).astype(np.float32)
    assert recall_at_k(embeddings, labels, (1, 2)).at == recall_at_k(longer, labels, (1, 2)).at
    assert (embeddings == before).all()


def test_class_hits_add_up_to_recall_at_1() -> None:
    rng = np.random.default_rng(3)
    recall = recall_at_k(rng.normal(size=(60, 4)).astype(np.float32), rng.integers(0, 6, size=60), (1, 2))
    assert recall.class_hits.sum() / recall.class_images.sum() == recall.at[1]
    assert recall.class_images.sum() == 60


def test_one_image_or_too_few_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="2 or more images"):
        recall_at_k(np.ones((1, 2), dtype=np.float32), np.zeros(1, dtype=np.int64), (1,))
    with pytest.raises(ValueError, match="a label each"):
        recall_at_k(np.ones((3, 2), dtype=np.float32), np.zeros(2, dtype=np.int64), (1,))


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def on_device(embeddings: Embeddings, labels: Labels, ks: tuple[int, ...], device: str) -> Recall:
    return recall_on_device(torch.from_numpy(embeddings).to(device), torch.from_numpy(labels).to(device), ks)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("block", [7, 4096])
def test_blocked_products_find_what_faiss_finds(device: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_QUERIES_PER_BLOCK", block)
    rng = np.random.default_rng(0)
    embeddings = (rng.normal(size=(300, 6)) * rng.uniform(0.1, 10, size=(300, 1))).astype(np.float32)
    labels = rng.integers(0, 20, size=300)
    for ks in ((1, 2, 4, 8), (1,), (1, 500)):
        faiss_found, found = recall_at_k(embeddings, labels, ks), on_device(embeddings, labels, ks, device)
        assert found.at == faiss_found.at
        assert (found.class_hits == faiss_found.class_hits).all()
        assert (found.class_images == faiss_found.class_images).all()


@pytest.mark.parametrize("device", DEVICES)
def test_under_ties_blocked_products_give_each_query_k_neighbours_too(device: str) -> None:
    embeddings = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    assert on_device(embeddings, np.array([0, 0, 1, 2]), (1,), device).at == {1: 0.5}
    labels = np.array([0] * 9 + [1])
    assert on_device(np.ones((10, 2), dtype=np.float32), labels, (2,), device).at == {2: 0.9}
    alone = on_device(np.ones((5, 2), dtype=np.float32), np.arange(5), (1, 2, 4), device)
    assert alone.at == {1: 0.0, 2: 0.0, 4: 0.0}
    with pytest.raises(ValueError, match="2 or more images"):
        on_device(np.ones((1, 2), dtype=np.float32), np.zeros(1, dtype=np.int64), (1,), device)
