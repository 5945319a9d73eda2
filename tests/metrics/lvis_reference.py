"""LVIS's federated box AP written down plainly, one detection at a time; no arrays, no engines."""

SIZES = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}


def iou(a, b):
    """IoU of two boxes x, y, w, h."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


def best_300(detections):
    """At most 300 detections of each image, by falling score; the earlier one of a tie."""
    out = []
    for image in dict.fromkeys(d["image_id"] for d in detections):
        own = [d for d in detections if d["image_id"] == image]
        out += sorted(own, key=lambda d: -d["score"])[:300]
    return out


def judge(image, category, truth, detections, threshold, size):
    """(score, verdict) per detection, verdict None where it is ignored; and the number to find."""
    low, high = SIZES[size]
    truth = sorted(truth, key=lambda g: not low <= g["area"] <= high)
    outside = [not low <= g["area"] <= high for g in truth]
    taken = [False] * len(truth)
    out = []
    for d in sorted(detections, key=lambda d: -d["score"]):
        best, found = threshold, None
        for place, g in enumerate(truth):
            if taken[place] or (found is not None and not outside[found] and outside[place]):
                continue
            if iou(d["bbox"], g["bbox"]) >= best:
                best, found = iou(d["bbox"], g["bbox"]), place
        if found is not None:
            taken[found] = True
            out.append((d["score"], None if outside[found] else True))
            continue
        area = d["bbox"][2] * d["bbox"][3]
        unsure = category in image["not_exhaustive_category_ids"]
        out.append((d["score"], None if unsure or not low <= area <= high else False))
    return out, outside.count(False)


def class_curve(document, detections, category, threshold, size):
    """AP and the last recall of one class; (None, None) without objects."""
    verdicts, to_find = [], 0
    for image in document["images"]:
        truth = [
            a
            for a in document["annotations"]
            if (a["image_id"], a["category_id"]) == (image["id"], category)
        ]
        if not truth and category not in image["neg_category_ids"]:
            continue
        own = [
            d for d in detections if (d["image_id"], d["category_id"]) == (image["id"], category)
        ]
        found, count = judge(image, category, truth, own, threshold, size)
        verdicts += found
        to_find += count
    if not to_find:
        return None, None
    right = wrong = 0
    curve = []
    for _, verdict in sorted((v for v in verdicts if v[1] is not None), key=lambda v: -v[0]):
        right, wrong = right + verdict, wrong + (not verdict)
        curve.append((right / to_find, right / (right + wrong)))
    points = [
        # 0.01 * 35 is a little more than 7 / 20, and the points are those of the package.
        max((precision for recall, precision in curve if recall >= step * 0.01), default=0.0)
        for step in range(101)
    ]
    return sum(points) / 101, right / to_find


def mean(values):
    """The mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def federated_ap(document, detections):
    """All numbers of LVIS by name; None where it says -1."""
    detections = best_300(detections)
    thresholds = [0.5 + 0.05 * step for step in range(10)]
    classes = {c["id"]: c["frequency"] for c in document["categories"]}
    ap, ar = {}, {}
    for size in SIZES:
        for category in classes:
            for step, threshold in enumerate(thresholds):
                ap[size, category, step], ar[size, category, step] = class_curve(
                    document, detections, category, round(threshold, 2), size
                )
    out = {f"AP{size}": mean(ap[size, c, t] for c in classes for t in range(10)) for size in SIZES}
    out |= {
        f"AR{size}@300": mean(ar[size, c, t] for c in classes for t in range(10)) for size in SIZES
    }
    out |= {
        f"AP{letter}": mean(
            ap["", c, t] for c, own in classes.items() if own == letter for t in range(10)
        )
        for letter in "rcf"
    }
    out |= {
        name: mean(ap["", c, step] for c in classes) for name, step in (("AP50", 0), ("AP75", 5))
    }
    return out
