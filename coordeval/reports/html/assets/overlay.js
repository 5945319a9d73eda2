// The picture with its boxes: ground truth, predictions, repeats and dropped records as vector
// layers that can be switched off one by one.
coordeval.overlay = (() => {
  const { svg, el, visible, store } = coordeval;
  const LAYERS = [
    ["truth", "ground truth", "g"],
    ["predictions", "predictions", "p"],
    ["repeats", "repeats", "d"],
    ["dropped", "dropped", "x"],
    ["labels", "labels", "l"],
  ];
  const shown = Object.fromEntries(LAYERS.map(([name]) => [name, true]));
  const MANY = 24;

  const layerOf = (record) =>
    record.verdict === "dropped" ? "dropped" : record.copy ? "repeats" : "predictions";

  const iou = (a, b) => {
    const wide = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
    const high = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (wide <= 0 || high <= 0) return 0;
    const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
    return (wide * high) / (area(a) + area(b) - wide * high);
  };

  // What is known of a record in one line.
  const describe = (record, details) => {
    const words = [`${record.index + 1}. ${record.desc === null ? "(no name)" : visible(record.desc, 80)}`];
    if (record.reason) {
      words.push(`dropped: ${record.reason}${record.detail ? ` / ${visible(record.detail, 40)}` : ""}`);
      if (record.evidence !== null) words.push(`found ${JSON.stringify(visible(record.evidence, 40))}`);
      if (record.slot !== null) words.push(`in slot ${record.slot + 1}`);
    } else words.push(record.verdict);
    for (const { slot, foreign, note } of record.weak) {
      const here = record.reason !== null && slot === record.slot;
      const what = foreign ? "no coordinate" : "control lost";
      words.push(here ? note : `${what} in slot ${slot + 1}: ${note}`);
    }
    if (record.copy) words.push(`${record.copy} repeat`);
    const partner = record.partner === null ? null : details.truth[record.partner];
    if (partner && record.kind === "bbox_2d" && partner.kind === "bbox_2d") {
      words.push(`IoU ${iou(record.geometry, partner.geometry).toFixed(2)}`);
    }
    if (record.score !== null) words.push(`score ${record.score.toFixed(3)}`);
    return words.join(" · ");
  };

  const shape = (item, attributes) => {
    const g = item.geometry;
    if (item.kind === "bbox_2d") {
      return svg("rect", {
        x: Math.min(g[0], g[2]), y: Math.min(g[1], g[3]),
        width: Math.abs(g[2] - g[0]), height: Math.abs(g[3] - g[1]), ...attributes,
      });
    }
    const points = g.join(" ");
    return item.kind === "poly"
      ? svg("polygon", { points, ...attributes })
      : svg("polyline", { points, fill: "none", ...attributes });
  };

  const corner = (item) => {
    const xs = item.geometry.filter((_, place) => place % 2 === 0);
    const ys = item.geometry.filter((_, place) => place % 2 === 1);
    return [Math.min(...xs), Math.min(...ys)];
  };

  const mark = (item, kind, title, unit) => {
    const group = svg("g", { class: `mark ${kind}`, "data-kind": kind });
    // A dark line under each coloured one keeps it readable on any picture.
    group.append(shape(item, { class: "halo" }), shape(item, { class: "line" }));
    group.append(svg("title", {}, title));
    if (item.desc !== null && item.verdict !== "matched") {
      const [x, y] = corner(item);
      group.append(
        svg("text", {
          class: "label", x: x + 3 * unit, y: Math.max(y - 4 * unit, 12 * unit),
          "font-size": 12 * unit,
        }, visible(item.desc, 24)),
      );
    }
    return group;
  };

  const picture = (position, width, height) => {
    const uri = store.thumbnail(position);
    if (uri) {
      return svg("image", {
        href: uri, x: 0, y: 0, width, height, preserveAspectRatio: "none",
        class: Math.max(width, height) <= 200 ? "pixels" : null,
      });
    }
    return svg("rect", { class: "plain", x: 0, y: 0, width, height });
  };

  // Draws an image; `onPick(record index)` hears of clicks on records.
  const draw = (position, details, displayWidth, onPick) => {
    const [width, height] = store.index.size[position];
    const unit = width / Math.max(displayWidth, 120);
    const root = svg("svg", {
      class: "picture", viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `${visible(store.index.ids[position], 60)}: ${coordeval.plural(details.truth.length, "true object")}, ${coordeval.plural(details.records.length, "record")}`,
    });
    root.append(picture(position, width, height));
    const layers = {};
    for (const [name] of LAYERS.slice(0, 4)) {
      layers[name] = svg("g", { class: `layer layer-${name}` });
      root.append(layers[name]);
    }
    for (const item of details.truth) {
      const title = `${visible(item.desc, 80)} · ground truth, ${item.verdict}`;
      layers.truth.append(mark(item, `truth ${item.verdict}`, title, unit));
    }
    let hidden = 0;
    for (const record of details.records) {
      if (!record.geometry) { hidden += 1; continue; }
      const layer = layerOf(record);
      const node = mark(record, `${layer} ${record.verdict}`, describe(record, details), unit);
      node.dataset.record = record.index;
      node.addEventListener("click", () => onPick(record.index));
      layers[layer].append(node);
    }
    root.classList.toggle("crowded", details.records.length + details.truth.length > MANY);
    apply(root);
    return { root, hidden };
  };

  const apply = (root) => {
    for (const [name] of LAYERS) root.classList.toggle(`without-${name}`, !shown[name]);
  };
  const toggle = (name) => {
    shown[name] = !shown[name];
    const box = document.querySelector(`#toggles input[name="${name}"]`);
    if (box) box.checked = shown[name];
    for (const root of document.querySelectorAll("svg.picture")) apply(root);
  };

  const toggles = (details) => {
    const counts = { truth: details.truth.length, predictions: 0, repeats: 0, dropped: 0 };
    for (const record of details.records) counts[layerOf(record)] += 1;
    return el("div", { id: "toggles", role: "group", "aria-label": "Layers" },
      ...LAYERS.map(([name, label, key]) =>
        el("label", { class: `toggle toggle-${name}`, title: `key ${key}` },
          el("input", {
            type: "checkbox", name, checked: shown[name], onchange: () => toggle(name),
          }),
          el("span", { class: "swatch", "aria-hidden": "true" }),
          name in counts ? `${label} ${coordeval.count(counts[name])}` : label,
        )),
    );
  };

  return { LAYERS, draw, describe, layerOf, toggle, toggles };
})();
