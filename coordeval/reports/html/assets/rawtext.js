// The text as it was written, with what became of each record; signs that cannot be seen are
// shown as escapes.
coordeval.rawText = (() => {
  const { el, visible } = coordeval;
  const TOKEN = /<\|coord_\d+\|>/g;

  // A piece of text with its coordinate tokens dimmed and its hidden signs made visible.
  const piece = (text) => {
    const parts = [];
    let place = 0;
    const plain = (part) => {
      let from = 0;
      for (const match of part.matchAll(coordeval.HIDDEN)) {
        if (match.index > from) parts.push(part.slice(from, match.index));
        parts.push(el("span", { class: "hidden-sign" }, coordeval.escapeSign(match[0])));
        if (match[0] === "\n") parts.push("\n");
        from = match.index + match[0].length;
      }
      if (from < part.length) parts.push(part.slice(from));
    };
    for (const match of text.matchAll(TOKEN)) {
      plain(text.slice(place, match.index));
      parts.push(el("span", { class: "token" }, match[0]));
      place = match.index + match[0].length;
    }
    plain(text.slice(place));
    return parts;
  };

  const badge = (record) => {
    const words = [record.reason];
    if (record.detail) words.push(visible(record.detail, 40));
    if (record.evidence !== null) words.push(`“${visible(record.evidence, 24)}”`);
    if (record.slot !== null) words.push(`slot ${record.slot + 1}`);
    const here = record.weak.find(({ slot }) => slot === record.slot);
    if (here) words.push(here.note);
    return el("span", { class: "badge" }, words.join(" · "));
  };

  const recordSpan = (record, details, onPick) => {
    const layer = coordeval.overlay.layerOf(record);
    const text = details.text.slice(record.start, record.end);
    const content = piece(text);
    const node = el("span", {
      class: `record ${layer} ${record.verdict}`, "data-record": record.index, tabindex: "-1",
      title: coordeval.overlay.describe(record, details),
      onclick: () => onPick(record.index),
    }, el("bdi", { dir: "ltr" }, ...content));
    if (record.reason) node.append(badge(record));
    return node;
  };

  const loopChip = (loop, fragment) => {
    const unit = loop.period === null ? "text" : loop.period === 1 ? "record" : `${loop.period} records`;
    const facts = [`the ${unit} before, ${coordeval.count(loop.repeats)} times in all`];
    if (loop.wasted !== null) facts.push(`${coordeval.plural(loop.wasted, "token")} wasted`);
    if (loop.reachesEnd) facts.push("to the end");
    const rest = el("span", { class: "loop-rest", hidden: true }, fragment);
    const button = el("button", {
      type: "button", class: "loop", "aria-expanded": "false",
      onclick: () => {
        rest.hidden = !rest.hidden;
        button.setAttribute("aria-expanded", String(!rest.hidden));
      },
    }, `↻ loop: ${facts.join(", ")}`);
    return [button, rest];
  };

  // The whole text from records and loops; `onPick(record index)` hears of clicks.
  const draw = (details, onPick) => {
    const box = el("div", {
      class: "rawtext", dir: "ltr", tabindex: "0", role: "region", "aria-label": "Raw text",
    });
    if (!details.text) box.append(el("p", { class: "missing" }, "Nothing was written."));
    const records = details.records.filter((record) => record.start < details.text.length);
    const write = (into, from, to) => {
      let place = from;
      for (const record of records) {
        if (record.start < from || record.start >= to) continue;
        into.append(...piece(details.text.slice(place, record.start)));
        into.append(recordSpan(record, details, onPick));
        place = Math.max(place, record.end);
      }
      into.append(...piece(details.text.slice(Math.min(place, to), to)));
      return Math.max(place, to);
    };
    let place = 0;
    for (const loop of details.loops) {
      if (loop.onset < place || loop.onset >= details.text.length) continue;
      place = write(box, place, loop.onset);
      const rest = document.createDocumentFragment();
      const end = write(rest, place, Math.min(loop.end, details.text.length));
      box.append(...loopChip(loop, rest));
      place = end;
    }
    write(box, place, details.text.length);
    if (details.cut) {
      box.append(el("p", { class: "missing" },
        `${coordeval.count(details.cut)} further characters are left out here; the run directory has them.`));
    }
    return box;
  };

  return { draw };
})();
