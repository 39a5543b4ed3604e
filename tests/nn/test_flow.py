"""Diffusion objectives and samplers against closed forms: normal data, a small discrete joint."""

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from manikin.nn import flow  # noqa: E402
from manikin.nn.flow import Normal  # noqa: E402


def rng(seed: int = 0) -> Any:
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------ noise levels


@given(st.integers(1, 500), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_low_discrepancy_levels_are_one_in_every_stratum(n: int, seed: int) -> None:
    t = flow.stratified(n, rng(seed))
    assert t.shape == (n,) and 0 <= t.min() and t.max() < 1
    # sorted, neighbours are exactly 1 / n apart: one in each n-th of the interval
    assert torch.allclose(t.sort().values.diff(), torch.full((n - 1,), 1 / n), atol=1e-5)


def test_low_discrepancy_levels_are_uniform_and_in_random_order() -> None:
    t = torch.stack([flow.stratified(4, rng(s)) for s in range(2000)])
    assert float(t[:, 0].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(t[:, 0].var()) == pytest.approx(1 / 12, abs=0.01)
    # the mean of 4 independent ones varies by 1 / 48, of these by 1 / 192 / … : (1 / 4)² / 12
    assert float(t.mean(1).var()) == pytest.approx(1 / 192, rel=0.15)
    assert flow.stratified(0, rng()).shape == (0,)


def test_levels_are_log_normal_within_limits() -> None:
    t = (torch.arange(10_000) + 0.5) / 10_000
    sigma = flow.levels(t, centre=-1.2, spread=1.2, least=1e-3, most=1e3)
    assert float(sigma.log().mean()) == pytest.approx(-1.2, abs=1e-3)
    assert float(sigma.log().std()) == pytest.approx(1.2, abs=2e-3)
    narrow = flow.levels(t, centre=-1.2, spread=1.2, least=0.1, most=1.0)
    assert float(narrow.min()) == pytest.approx(0.1) and float(narrow.max()) == pytest.approx(1.0)


def test_the_ladder_falls_from_most_to_least_and_ends_at_nothing() -> None:
    sigmas = flow.ladder(3, least=1.0, most=9.0, rho=2.0)
    # roots 3, 2, 1 fall evenly: squares 9, 4, 1
    assert sigmas == pytest.approx([9.0, 4.0, 1.0, 0.0])
    assert flow.ladder(1, least=0.1, most=5.0) == pytest.approx([5.0, 0.0])


# ------------------------------------------------------------------ numbers

COVARIANCE = torch.tensor([[2.0, 0.9], [0.9, 0.5]])


def test_a_silent_network_is_the_exact_denoiser_of_normal_data() -> None:
    data = Normal.of(COVARIANCE)
    x, sigma = torch.randn(7, 2, generator=rng()), torch.full((7, 1), 0.8)
    # E[x0 | x] = Σ (Σ + σ² I)⁻¹ x
    wanted = x @ torch.linalg.solve(COVARIANCE + 0.64 * torch.eye(2), COVARIANCE)
    assert torch.allclose(flow.denoise(torch.zeros(7, 2), x, sigma, data), wanted, atol=1e-5)


def test_axes_are_turned_to_in_full_precision_under_bfloat16() -> None:
    # two columns that differ by a thousandth: bfloat16 has 8 bits and would see none of it
    data = Normal.of(torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-4]]))
    x = torch.tensor([[1.234, 1.236]])
    with torch.autocast("cpu", torch.bfloat16):
        low = data.scaled(x, torch.tensor([[0.01]]))
    assert torch.allclose(low, data.scaled(x, torch.tensor([[0.01]])), rtol=1e-6)
    assert torch.allclose(data.back(data.turned(x)), x, atol=1e-6)


def test_without_axes_it_is_the_preconditioning_of_the_paper() -> None:
    data, x = Normal(torch.tensor(0.25)), torch.tensor([[[3.0]]])  # any shape: an image, a signal
    # c_skip = .25 / (.25 + 1) = .2, c_out = 1 · .5 / √1.25 = .447214, c_in = 1 / √1.25 = .894427
    d = flow.denoise(torch.tensor([[[2.0]]]), x, torch.tensor(1.0), data)
    assert float(d) == pytest.approx(0.2 * 3 + 0.447214 * 2, abs=1e-5)
    assert float(data.scaled(x, torch.tensor(1.0))) == pytest.approx(3 * 0.894427, abs=1e-5)


def test_saying_nothing_costs_one_at_every_level() -> None:
    data, n = Normal.of(COVARIANCE), 200_000
    clean = torch.randn(n, 2, generator=rng(1)) @ torch.linalg.cholesky(COVARIANCE).T
    for level in (0.05, 1.0, 20.0):
        sigma = torch.full((n, 1), level)
        x = clean + level * torch.randn(n, 2, generator=rng(2))
        cost = flow.number_loss(torch.zeros(n, 2), clean, x, sigma, data).mean(0)
        assert torch.allclose(cost, torch.ones(2), atol=0.02), level


def test_the_loss_is_zero_where_the_denoiser_gives_the_clean_row() -> None:
    data = Normal.of(COVARIANCE)
    clean, noise = torch.randn(2, 5, 2, generator=rng(3))
    sigma = torch.tensor([[0.1], [0.5], [1.0], [2.0], [9.0]])
    x = clean + sigma * noise
    total = data.variances + sigma**2
    said = (data.turned(clean) - data.turned(x) * data.variances / total) / (
        sigma * (data.variances / total).sqrt()
    )
    assert float(flow.number_loss(said, clean, x, sigma, data).max()) < 1e-6
    assert torch.allclose(flow.denoise(said, x, sigma, data), clean, atol=1e-4)


NONE = torch.zeros(20_000, 0, dtype=torch.int64)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("steps", [1, 12])
def test_the_sampler_with_the_exact_denoiser_is_exact_for_normal_data(
    noise: float, steps: int
) -> None:
    data = Normal.of(COVARIANCE)

    def model(x: Any, symbols: Any, sigma: float) -> tuple[Any, Any]:
        level = torch.full((len(x), 1), sigma)
        return flow.denoise(torch.zeros_like(x), x, level, data), symbols

    sigmas = flow.ladder(steps, least=0.01, most=20.0)[:-1]
    start = data.draw(torch.zeros(20_000, 2), 20.0, rng(4))
    x, _ = flow.sample(model, start, NONE, sigmas, NONE, lambda p: p, rng(5), data, noise=noise)
    assert torch.allclose(x.mean(0), torch.zeros(2), atol=0.04)
    assert torch.allclose(torch.cov(x.T), COVARIANCE, rtol=0.03, atol=0.02)


def test_the_sampler_finds_two_modes_that_the_scaling_does_not_know() -> None:
    # x0 = ± 1: D(x, σ) = tanh(x / σ²), while the scaling takes the data for N(0, 1)
    data = Normal(torch.tensor(1.0))

    def model(x: Any, symbols: Any, sigma: float) -> tuple[Any, Any]:
        return torch.tanh(x / sigma**2), symbols

    start = data.draw(torch.zeros(20_000, 1), 20.0, rng(4))
    sigmas = flow.ladder(40, least=0.01, most=20.0)[:-1]
    x, _ = flow.sample(model, start, NONE, sigmas, NONE, lambda p: p, rng(5), data)
    assert float((x.abs() - 1).abs().max()) < 0.05 and float(x.mean()) == pytest.approx(0, abs=0.03)


def test_one_step_turns_by_the_angle_between_the_levels() -> None:
    # v = 1, D = 1 from x = 0 at σ = 2: F = 1 · √5 / (2 · 1), angle atan 2 - atan 1 = .321751;
    # u' = F angle = .359729, x' = u' √2 = .508734; in many short steps it is the same flow
    x, one = torch.zeros(1, 1), torch.ones(1, 1)
    moved = flow.step(x, one, 2.0, 1.0, Normal(torch.tensor(1.0)))
    assert float(moved) == pytest.approx(0.508734, abs=1e-5)
    # at σ' = 0 from a small σ what is said is what comes
    assert float(flow.step(x, one, 1e-3, 0.0, Normal(torch.tensor(1.0)))) == pytest.approx(
        1, abs=1e-5
    )
    raised = flow.renoised(torch.zeros(100_000), 1.0, 2.0, rng(6))
    assert float(raised.std()) == pytest.approx(math.sqrt(3), abs=0.02)


@pytest.mark.parametrize("known", [-1.0, 1.5])
def test_what_is_known_moves_what_is_not(known: float) -> None:
    data = Normal.of(COVARIANCE)

    def model(x: Any, symbols: Any, sigma: float) -> tuple[Any, Any]:
        level = torch.full((len(x), 1), sigma)
        return flow.denoise(torch.zeros_like(x), x, level, data), symbols

    truth = torch.full((20_000, 2), math.nan)
    truth[:, 0] = known
    start = data.draw(torch.zeros(20_000, 2), 10.0, rng(7))
    sigmas = flow.ladder(40, least=0.01, most=10.0)[:-1]
    x, _ = flow.sample(
        model, start, NONE, sigmas, NONE, lambda p: p, rng(8), data, known=truth, repeats=4
    )
    assert bool((x[:, 0] == known).all())
    # E[b | a] = .9 / 2 a, var = .5 - .81 / 2 = .095
    assert float(x[:, 1].mean()) == pytest.approx(0.45 * known, abs=0.06)
    assert float(x[:, 1].var()) == pytest.approx(0.095, abs=0.02)


# ------------------------------------------------------------------ symbols

JOINT = torch.tensor([[[0.20, 0.02], [0.03, 0.10]], [[0.05, 0.15], [0.25, 0.20]]])  # (2, 2, 2)


def exact(symbols: Any) -> Any:
    """Log p(each place | known places) of rows (rows, 3), (rows, 3, 2)."""
    found = []
    for place in range(3):
        p = JOINT.expand(len(symbols), 2, 2, 2).clone()
        for other in range(3):
            if other != place:
                wanted = symbols[:, other]
                at = torch.arange(2) == wanted[:, None]
                keep = at | (wanted[:, None] < 0)
                p = p * keep.view(-1, *(2 if i == other else 1 for i in range(3)))
        rest = tuple(1 + i for i in range(3) if i != place)
        total = p.sum(rest)
        found.append((total / total.sum(1, keepdim=True)).log())
    return torch.stack(found, 1)


@pytest.mark.parametrize("given_", [{}, {0: 1}, {2: 0}])
def test_masks_with_exact_conditionals_give_the_joint(given_: dict[int, int]) -> None:
    n, stream = 40_000, rng(9)
    symbols = torch.full((n, 3), flow.MASK)
    for place, symbol in given_.items():
        symbols[:, place] = symbol

    def choose(log_prob: Any) -> Any:
        return (torch.rand(n, 3, generator=stream) < log_prob[..., 1].exp()).long()

    due = flow.reveals(symbols == flow.MASK, 3, rng(10))
    none = torch.zeros(n, 0)
    _, made = flow.sample(
        lambda x, s, sigma: (x, exact(s)),
        none,
        symbols,
        [0.0] * 3,
        due,
        choose,
        stream,
        Normal(torch.ones(0)),
    )
    wanted = JOINT.clone()
    for place, symbol in given_.items():
        wanted.movedim(place, 0)[1 - symbol] = 0.0
    wanted = wanted / wanted.sum()
    found = torch.bincount(made @ torch.tensor([4, 2, 1]), minlength=8).view(2, 2, 2) / n
    assert float((found - wanted).abs().max()) < 0.012


def test_places_are_revealed_one_at_a_time_in_every_order() -> None:
    mask = torch.ones(6000, 3, dtype=torch.bool)
    due = flow.reveals(mask, 3, rng(11))
    assert torch.equal(due.sort(1).values, torch.arange(3).expand(6000, 3))
    orders = torch.bincount(due @ torch.tensor([9, 3, 1]))
    assert int((orders > 0).sum()) == 6 and float(orders[orders > 0].min()) > 880  # of 1000 each
    # of 4 places in 2 steps two are due at each; of one hidden place every step is as likely
    assert torch.equal(flow.reveals(mask[:, :1].expand(-1, 4), 2, rng(1)).sum(1).unique(),
                       torch.tensor([2]))  # fmt: skip
    one = torch.tensor([[True, False, False]]).expand(6000, 3)
    share = torch.bincount(flow.reveals(one, 3, rng(12))[:, 0]) / 6000
    assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.03)


def test_every_number_of_masked_places_is_as_likely() -> None:
    places = torch.tensor([True, True, False, True])
    mask = flow.masked(flow.stratified(30_000, rng(13)), places, rng(14))
    share = torch.bincount(mask[:, places].sum(1), minlength=4) / 30_000
    assert torch.allclose(share, torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]), atol=1e-3)
    assert torch.allclose(
        mask[:, places].double().mean(0), torch.full((3,), 2 / 3).double(), atol=0.01
    )
    nothing = flow.masked(torch.rand(5, generator=rng()), torch.zeros(4, dtype=torch.bool), rng())
    assert not nothing.any()


def test_the_loss_of_exact_conditionals_is_the_entropy() -> None:
    n = 60_000
    flat = torch.multinomial(JOINT.flatten(), n, replacement=True, generator=rng(15))
    truth = torch.stack([flat // 4, flat // 2 % 2, flat % 2], 1)
    places = torch.ones(3, dtype=torch.bool)
    mask = flow.masked(flow.stratified(n, rng(16)), places, rng(17))
    log_prob = exact(truth.masked_fill(mask, flow.MASK)).gather(2, truth[..., None])[..., 0]
    entropy = -float((JOINT * JOINT.log()).sum())
    assert float(flow.masked_loss(log_prob, mask, places).mean()) == pytest.approx(
        entropy, abs=0.03
    )


# ------------------------------------------------------------------ guidance


def test_guidance_pushes_away_from_what_is_said_without_the_condition() -> None:
    given_, free = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 1.0])
    assert torch.equal(flow.guided(given_, free, 0.0), given_)
    assert flow.guided(given_, free, 1.5).tolist() == [3.5, 1.0]  # 2 + 1.5 (2 - 1)
