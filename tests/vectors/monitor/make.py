"""Writes the reference vectors of the monitor's statistics.

    pip install -r requirements.txt && python make.py

Every figure comes from the library that people know it from: scipy (Kolmogorov-Smirnov, Wasserstein, chi-square,
Jensen-Shannon, correlation), River (ADWIN, Page-Hinkley), scikit-learn (AUC, calibration curve, mutual information), and
for the Population Stability Index the formula of Evidently 0.7.23 with its rule for empty bins.
"""

import json
import pathlib

import numpy as np
from river import drift
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.calibration import calibration_curve
from sklearn.metrics import mutual_info_score, roc_auc_score

HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(20261126)


def short(values, digits=6):
    """As they are written: the reference sees exactly what the test reads."""
    return [round(float(x), digits) for x in values]


def write(name, cases):
    (HERE / f"{name}.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def samples():
    yield "shifted normals", short(rng.normal(0, 1, 300), 3), short(rng.normal(0.4, 1, 200), 3)
    yield "a normal and a wider one", short(rng.normal(0, 1, 150), 3), short(rng.normal(0, 3, 350), 3)
    yield "many ties", short(rng.integers(0, 5, 200)), short(rng.integers(1, 7, 100))
    yield "disjoint", short(rng.uniform(0, 1, 50), 3), short(rng.uniform(5, 9, 60), 3)
    yield "constants", [2.5] * 40, [2.5] * 30
    yield "a constant that begins to vary", [0.42] * 100, short(rng.uniform(0, 1, 80), 3)
    yield "heavy tails", short(rng.standard_cauchy(120), 3), short(rng.standard_cauchy(120) * 2, 3)
    yield "one value against many", [1.0], short(rng.normal(0, 1, 40), 3)


def numbers():
    cases = []
    for name, a, b in samples():
        weights = (short(rng.uniform(0.1, 3, len(a)), 3), short(rng.uniform(0.1, 3, len(b)), 3))
        cases.append({
            "name": name, "a": a, "b": b, "weights_a": weights[0], "weights_b": weights[1],
            "ks": stats.ks_2samp(a, b).statistic,
            "wasserstein": stats.wasserstein_distance(a, b),
            "wasserstein_weighted": stats.wasserstein_distance(a, b, *weights),
        })
    return cases


def evidently(shares):
    shares = np.array(shares, dtype=float)
    least = shares[shares != 0].min()
    shares[shares == 0] = least / 10**6 if least <= 0.0001 else 0.0001
    return shares


def counts():
    tables = [
        ([50, 30, 20], [40, 40, 20]), ([100, 0, 5], [80, 20, 0]), ([1, 1], [1000, 1]), ([5, 0, 7, 0], [6, 0, 2, 9]),
        ([100000, 3, 0], [100, 0, 50]), ([7] * 10, [7] * 10),
    ]
    cases = []
    for a, b in tables:
        used = [(x, y) for x, y in zip(a, b) if x + y > 0]
        chi = stats.chi2_contingency(np.array(used).T, correction=False)
        p, q = evidently(np.array(a) / sum(a)), evidently(np.array(b) / sum(b))
        cases.append({
            "a": a, "b": b, "chi_square": chi.statistic, "freedom": int(chi.dof),
            "cramer_v": stats.contingency.association(np.array(used).T, method="cramer"),
            "jensen_shannon": float(jensenshannon(a, b, base=2)),
            "psi": float(np.sum((p - q) * np.log(p / q))),
        })
    return cases


def streams():
    yield "no change", short(rng.normal(0.3, 0.1, 3000), 4)
    yield "a jump", short(np.r_[rng.normal(0.2, 0.1, 1500), rng.normal(0.5, 0.1, 1500)], 4)
    yield "zeros and ones", short(np.r_[rng.random(2000) < 0.2, rng.random(2000) < 0.35])
    yield "slowly up", short(rng.normal(0, 0.2, 4000) + np.linspace(0, 1, 4000), 4)
    yield "a wide jump and back", short(np.r_[rng.normal(0, 1, 800), rng.normal(8, 1, 800), rng.normal(0, 1, 800)], 4)
    yield "constant", [1.0] * 500


def changes():
    cases = []
    for name, xs in streams():
        adwin, hinkley = drift.ADWIN(), drift.PageHinkley()
        found = {"adwin": [], "page_hinkley": []}
        for at, x in enumerate(xs):
            adwin.update(x)
            hinkley.update(x)
            if adwin.drift_detected:
                found["adwin"].append(at)
            if hinkley.drift_detected:
                found["page_hinkley"].append(at)
        cases.append({"name": name, "xs": xs, **found, "adwin_width": adwin.width, "adwin_mean": adwin.estimation})
    return cases


def scores():
    cases = []
    for name, n, sharpen in (("calibrated", 800, 1.0), ("overconfident", 800, 2.5), ("few", 12, 1.0)):
        chance = rng.beta(1.2, 1.6, n)
        outcome = rng.random(n) < chance
        odds = np.log(chance / (1 - chance)) * sharpen
        score = np.array(short(1 / (1 + np.exp(-odds)), 4))
        observed, predicted = calibration_curve(outcome, score, n_bins=10)
        count = np.histogram(np.searchsorted(np.linspace(0, 1, 11)[1:-1], score), np.arange(11))[0]
        count = count[count > 0]
        feature = np.array(short(rng.normal(0, 1, n) + outcome, 3))
        code = np.digitize(feature, [-0.5, 0.5, 1.5])
        cases.append({
            "name": name, "score": score.tolist(), "outcome": outcome.astype(int).tolist(),
            "auc": roc_auc_score(outcome, score), "observed": observed.tolist(), "predicted": predicted.tolist(),
            "ece": float(np.sum(count * np.abs(observed - predicted)) / n),
            "feature": feature.tolist(), "code": code.tolist(),
            "correlation": stats.pearsonr(feature, outcome).statistic,
            "mutual_information": mutual_info_score(code, outcome),
        })
    return cases


write("numbers", numbers())
write("counts", counts())
write("changes", changes())
write("scores", scores())
