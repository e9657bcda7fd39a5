"""A second implementation of every aggregation: plain float64 loops over A [r, in] and B [out, r], module by module,
straight from the formulas. Reads {"methods": […], "federations": […]} as JSON from standard input and
writes, by method and federation, the global adapter after the round: its factors, or its product and the best
approximations of the product at every tier, where factors are not unique; null where the method does not apply.
"""

import json
import sys

import numpy as np


def trained(client, factor, module):
    received = np.array(client["received"][factor][module], dtype=np.float64)
    return received + np.array(client["delta"][factor][module], dtype=np.float64)


def examples(clients):
    return sum(client["n"] for client in clients)


def segments(federation):
    low = 0
    for tier in federation["tiers"]:
        yield low, tier, [client for client in federation["clients"] if client["r"] >= tier]
        low = tier


def previous_factors(federation, module):
    return tuple(np.array(federation["global"][factor][module], dtype=np.float64) for factor in ("A", "B"))


# Means of factors


def segment_wise(federation, module, factors=("A", "B")):
    a, b = previous_factors(federation, module)
    for low, high, contributors in segments(federation):
        if not contributors:
            continue
        for j in range(low, high):
            step_a, step_b = np.zeros(a.shape[1]), np.zeros(b.shape[0])
            for client in contributors:
                step_a += client["n"] * np.array(client["delta"]["A"][module])[j, :]
                step_b += client["n"] * np.array(client["delta"]["B"][module])[:, j]
            if "A" in factors:
                a[j, :] += step_a / examples(contributors)
            if "B" in factors:
                b[:, j] += step_b / examples(contributors)
    return a, b


def zero_pad_deltas(federation, module):
    a, b = previous_factors(federation, module)
    for client in federation["clients"]:
        share = client["n"] / examples(federation["clients"])
        delta_a, delta_b = np.array(client["delta"]["A"][module]), np.array(client["delta"]["B"][module])
        a[: len(delta_a), :] += share * delta_a
        b[:, : len(delta_a)] += share * delta_b
    return a, b


def ffa_lora(federation, module):
    return segment_wise(federation, module, factors=("B",))


def padded_mean(federation, module, weights):
    a, b = (np.zeros_like(factor) for factor in previous_factors(federation, module))
    for client, weight in zip(federation["clients"], weights, strict=True):
        for j in range(client["r"]):
            a[j, :] += weight * trained(client, "A", module)[j, :] / sum(weights)
            b[:, j] += weight * trained(client, "B", module)[:, j] / sum(weights)
    return a, b


def zero_pad_weights(federation, module):
    return padded_mean(federation, module, [client["n"] for client in federation["clients"]])


def hetlora(federation, module):
    weights = []
    for client in federation["clients"]:
        squares = 0.0
        for other in range(len(federation["global"]["A"])):
            squares += np.sum((trained(client, "B", other) @ trained(client, "A", other)) ** 2)
        weights.append(np.sqrt(squares))
    return padded_mean(federation, module, weights)


def fedit(federation, module):
    ranks = {client["r"] for client in federation["clients"]}
    if len(ranks) > 1:
        return None
    a, b = previous_factors(federation, module)
    (r,) = ranks
    a[:r, :], b[:, :r] = 0, 0
    for client in federation["clients"]:
        a[:r, :] += client["n"] / examples(federation["clients"]) * trained(client, "A", module)
        b[:, :r] += client["n"] / examples(federation["clients"]) * trained(client, "B", module)
    return a, b


# Sums of products


def mean_product(federation, module):
    a, b = previous_factors(federation, module)
    product = np.zeros((b.shape[0], a.shape[1]))
    for client in federation["clients"]:
        share = client["n"] / examples(federation["clients"])
        product += share * federation["scale"] * (trained(client, "B", module) @ trained(client, "A", module))
    return product


def segment_products(federation, module):
    a, b = previous_factors(federation, module)
    product = np.zeros((b.shape[0], a.shape[1]))
    for low, high, contributors in segments(federation):
        if not contributors:
            product += federation["scale"] * (b[:, low:high] @ a[low:high, :])
        for client in contributors:
            part = trained(client, "B", module)[:, low:high] @ trained(client, "A", module)[low:high, :]
            product += client["n"] / examples(contributors) * federation["scale"] * part
    return product


def product_deltas(federation, module):
    """The first round, in which there is no velocity yet; without what the default of tau leaves out."""
    a, b = previous_factors(federation, module)
    product = federation["scale"] * (b @ a)
    for client in federation["clients"]:
        share = client["n"] / examples(federation["clients"])
        received = np.array(client["received"]["B"][module]) @ np.array(client["received"]["A"][module])
        product += (
            share * federation["scale"] * (trained(client, "B", module) @ trained(client, "A", module) - received)
        )
    u, values, v = np.linalg.svd(product, full_matrices=False)
    return (u * np.where(values < 1e-3 * values[0], 0.0, values)) @ v


def fedsvd(federation, module):
    a, b = ffa_lora(federation, module)
    return federation["scale"] * (b @ a)


def fedex_lora(federation, module):
    """Exact for the components that clients have; the others stay."""
    if fedit(federation, module) is None:
        return None
    a, b = previous_factors(federation, module)
    r = federation["clients"][0]["r"]
    return mean_product(federation, module) + federation["scale"] * (b[:, r:] @ a[r:, :])


FACTORS = {
    "segment-wise": segment_wise,
    "zero-pad-deltas": zero_pad_deltas,
    "zero-pad-weights": zero_pad_weights,
    "hetlora": hetlora,
    "fedit": fedit,
    "ffa-lora": ffa_lora,
}
PRODUCTS = {
    "flexlora": mean_product,
    "hlora": mean_product,
    "fedrora": mean_product,
    "flora": mean_product,
    "fedex-lora": fedex_lora,
    "fedsvd": fedsvd,
    "raflora": segment_products,
    "product-deltas": product_deltas,
}


def truncations(product, tiers):
    """The best approximation at each tier's rank; null where two singular values are too close to choose between."""
    u, values, v = np.linalg.svd(product)
    values = np.append(values, 0.0)
    found = []
    for r in tiers:
        is_clear = values[r] < 1e-12 * values[0] or values[r - 1] - values[r] > 1e-6 * values[0]
        approximation = np.zeros_like(product)
        for j in range(r):
            approximation += values[j] * np.outer(u[:, j], v[j, :])
        found.append(approximation.tolist() if is_clear or values[0] == 0 else None)
    return found


def fedrora_starts(product, federation, module):
    """What each client starts its next fit from: what it has itself of the mean's directions, of the r largest. Null
    where two singular values, or the magnitudes that decide which is left out, are too close to choose between."""
    u, values, v = np.linalg.svd(product)
    r = federation["tiers"][-1]
    count = int(np.sum(values[:r] > 1e-9 * values[0]))
    bounds = np.append(values, 0.0)[: count + 1]
    is_clear = np.all(-np.diff(bounds) > 1e-6 * values[0])
    starts = []
    for client in federation["clients"]:
        own = federation["scale"] * (trained(client, "B", module) @ trained(client, "A", module))
        magnitudes = np.array([u[:, k] @ own @ v[k, :] for k in range(count)])
        order = np.argsort(-np.abs(magnitudes), kind="stable")
        sizes = np.append(np.abs(magnitudes)[order], 0.0)
        kept = min(client["r"], count)
        is_chosen = kept == count or sizes[kept - 1] - sizes[kept] > 1e-5 * values[0]
        start = np.zeros_like(product)
        for k in order[:kept]:
            start += magnitudes[k] * np.outer(u[:, k], v[k, :])
        starts.append(start.tolist() if is_clear and is_chosen else None)
    return starts


def dense_mean(federation):
    dense = np.array(federation["global"]["dense"], dtype=np.float64)
    for client in federation["clients"]:
        dense += client["n"] / examples(federation["clients"]) * np.array(client["delta"]["dense"])
    return dense


def answer(name, federation):
    modules = []
    for module in range(len(federation["global"]["A"])):
        if name in PRODUCTS:
            product = PRODUCTS[name](federation, module)
            if product is None:
                return None
            modules.append({"product": product.tolist(), "tiers": truncations(product, federation["tiers"])})
            if name == "fedrora":
                modules[-1]["starts"] = fedrora_starts(product, federation, module)
        else:
            factors = FACTORS[name](federation, module)
            if factors is None:
                return None
            modules.append({"A": factors[0].tolist(), "B": factors[1].tolist()})
    return {"modules": modules, "dense": dense_mean(federation).tolist()}


def main():
    request = json.load(sys.stdin)
    answers = [[answer(method, federation) for federation in request["federations"]] for method in request["methods"]]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
