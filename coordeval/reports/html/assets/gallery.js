// The list of images and the one that is looked at.
coordeval.gallery = (() => {
  const { el, visible, store, filters } = coordeval;
  const { index } = store;
  const PAGE = 60;
  const list = document.getElementById("list");
  const detail = document.getElementById("detail");
  const total = document.getElementById("matches");
  const more = document.getElementById("more");
  let positions = [];
  let listed = 0;
  let selected = null;
  let turn = 0;

  const badges = (run, position) => {
    const facts = [
      ["missed", run.missed[position], "missed"],
      ["wrong", run.wrong[position], "wrong"],
      ["dropped", run.dropped[position], "dropped"],
      ["copies", run.copies[position], "repeats"],
    ].filter(([, count]) => count);
    const out = facts.map(([kind, count, word]) =>
      el("span", { class: `chip ${kind}` }, `${coordeval.count(count)} ${word}`));
    if (run.loop[position]) out.push(el("span", { class: "chip loop" }, "loop"));
    if (run.failed[position]) out.push(el("span", { class: "chip error" }, "engine error"));
    if (!out.length) out.push(el("span", { class: "chip fine" }, "no failure"));
    return out;
  };

  const changeChip = (position) => {
    if (index.runs.length < 2) return null;
    const change = filters.change(position);
    if (!change) return null;
    const size = Math.abs(change).toFixed(2);
    const sign = size === "0.00" ? "±" : change > 0 ? "+" : "−";
    const text = `F1 ${sign}${size}`;
    return el("span", { class: `chip ${change > 0 ? "better" : "worse"}` }, text);
  };

  const thumbnail = (position) => {
    const uri = store.thumbnail(position);
    return uri
      ? el("img", { src: uri, alt: "", loading: "lazy", class: "thumb" })
      : el("span", { class: "thumb plain", title: store.absence(position) });
  };

  const item = (position) => {
    const run = index.runs[filters.runNumber()];
    return el("li", {},
      el("button", {
        type: "button", class: "item", "data-position": position,
        "aria-current": position === selected ? "true" : null,
        onclick: () => choose(position),
      },
      thumbnail(position),
      el("span", { class: "item-text" },
        coordeval.isolated(visible(index.ids[position], 60), { class: "item-id" }),
        el("span", { class: "chips" }, ...badges(run, position), changeChip(position)))));
  };

  const extend = (until = listed + PAGE) => {
    const next = positions.slice(listed, until);
    list.append(...next.map(item));
    listed += next.length;
    more.hidden = listed >= positions.length;
    more.textContent = `Show ${Math.min(PAGE, positions.length - listed)} more`;
  };

  const refresh = () => {
    positions = filters.positions();
    listed = 0;
    list.replaceChildren();
    extend();
    const words = `${coordeval.count(positions.length)} of ${coordeval.plural(index.ids.length, "image")}`;
    total.textContent = words;
    if (!positions.length) {
      selected = null;
      detail.replaceChildren(el("p", { class: "missing" }, "No image fits these filters."));
    } else if (selected === null || !positions.includes(selected)) selected = positions[0];
    return look();
  };

  const choose = (position) => {
    selected = position;
    const place = positions.indexOf(position);
    if (place >= listed) extend(place + 1);
    for (const node of list.querySelectorAll(".item")) {
      const current = Number(node.dataset.position) === position;
      if (current) {
        node.setAttribute("aria-current", "true");
        const box = list.parentElement;
        const top = node.offsetTop - box.offsetTop;
        if (top < box.scrollTop) box.scrollTop = top;
        const bottom = top + node.offsetHeight;
        if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
      } else node.removeAttribute("aria-current");
    }
    filters.toAddress(index.ids[position]);
    return look();
  };

  const step = (by) => {
    if (!positions.length) return;
    const place = positions.indexOf(selected) + by;
    if (place >= 0 && place < positions.length) choose(positions[place]);
  };

  const pick = (number) => {
    for (const node of detail.querySelectorAll("[data-record]")) {
      const same = Number(node.dataset.record) === number;
      node.classList.toggle("picked", same);
      if (same && node.closest(".rawtext")) {
        const rest = node.closest(".loop-rest");
        if (rest) rest.hidden = false;
        const box = node.closest(".rawtext");
        box.scrollTop = node.offsetTop - box.offsetTop - box.clientHeight / 3;
      }
    }
  };

  const tabs = (position) => el("div", { class: "tabs", role: "group", "aria-label": "Run" },
    ...index.runs.map((run, number) => el("button", {
      type: "button", class: "tab", "aria-pressed": String(number === filters.runNumber()),
      disabled: run.right[position] === null,
      onclick: () => filters.set({ run: run.label }),
    },
    run.label,
    el("span", { class: "tab-facts" }, run.right[position] === null
      ? "no line"
      : `${run.right[position]} right, ${run.wrong[position]} wrong, ${run.missed[position]} missed`))));

  const facts = (position, details) => {
    const run = index.runs[filters.runNumber()];
    const [width, height] = index.size[position];
    const words = [`${width} × ${height} px`];
    if (details.finish) words.push(`finish: ${details.finish}`);
    if (details.tokens !== null) words.push(coordeval.plural(details.tokens, "token"));
    words.push(`${run.right[position]} right at IoU ${run.threshold}`);
    const issues = Object.keys(details.issues);
    return el("div", { class: "facts" },
      el("p", {}, words.join(" · ")),
      details.guard === null ? null : el("p", { class: "note" }, details.guard),
      el("p", { class: "chips" }, ...badges(run, position), changeChip(position),
        ...issues.map((name) => el("span", { class: "chip issue" }, name.replaceAll("_", " ")))));
  };

  const misses = (details) => {
    const missed = details.truth.filter((item) => item.verdict === "missed");
    if (!missed.length) return null;
    const counts = new Map();
    for (const { desc } of missed) counts.set(desc, (counts.get(desc) ?? 0) + 1);
    const parts = [...counts].flatMap(([desc, count], place) => [
      place ? ", " : "", coordeval.isolated(visible(desc, 40)), count > 1 ? ` × ${count}` : "",
    ]);
    return el("p", { class: "note" }, "Missed: ", ...parts);
  };

  const look = async () => {
    if (selected === null) return;
    const position = selected;
    const mine = (turn += 1);
    let details;
    try {
      details = await store.details(filters.runNumber(), position);
    } catch (error) {
      detail.replaceChildren(el("p", { class: "missing" },
        `The details could not be unpacked: ${error.message}. A browser of 2023 or later can.`));
      return;
    }
    // A faster key press may have moved on while a chunk was unpacked.
    if (mine !== turn || details === null) return;
    draw(position, details);
  };

  const draw = (position, details) => {
    const place = positions.indexOf(position);
    // The picture takes one of two columns where there is room for both.
    const room = detail.clientWidth || 640;
    const width = room > 820 ? room / 2 : room;
    const { root, hidden } = coordeval.overlay.draw(position, details, width, pick);
    const head = el("header", { class: "detail-head" },
      el("h3", {}, coordeval.isolated(visible(index.ids[position], 120))),
      el("span", { class: "where" }, `${coordeval.count(place + 1)} of ${coordeval.count(positions.length)}`),
      el("button", { type: "button", class: "quiet", name: "previous", title: "key k", disabled: place <= 0, onclick: () => step(-1) }, "← previous"),
      el("button", { type: "button", class: "quiet", name: "next", title: "key j", disabled: place >= positions.length - 1, onclick: () => step(1) }, "next →"));
    const notes = [misses(details)];
    if (hidden) {
      notes.push(el("p", { class: "note" },
        `${coordeval.plural(hidden, "dropped record")} without readable coordinates cannot be drawn.`));
    }
    if (!store.thumbnail(position)) {
      notes.push(el("p", { class: "note absent" }, `No picture: ${store.absence(position)}.`));
    }
    if (details.error !== null) {
      notes.push(el("p", { class: "note error" }, "Engine error: ", coordeval.isolated(visible(details.error, 400))));
    }
    detail.replaceChildren(
      head,
      ...(index.runs.length > 1 ? [tabs(position)] : []),
      facts(position, details),
      el("div", { class: "pair" },
        el("div", { class: "side" }, coordeval.overlay.toggles(details), root, ...notes.filter(Boolean)),
        el("div", { class: "side" },
          el("p", { class: "side-title" }, "What the model wrote"),
          coordeval.rawText.draw(details, pick))));
    detail.dataset.id = index.ids[position];
  };

  const follow = async () => {
    const given = filters.fromAddress();
    if (!given) return;
    const known = Object.fromEntries(filters.KEYS.map((key) => [key, given[key] ?? ""]));
    Object.assign(filters.state, known);
    filters.show();
    const position = given.id === undefined ? -1 : index.ids.indexOf(given.id);
    if (position >= 0) selected = position;
    await refresh();
    if (position >= 0 && positions.includes(position)) await choose(position);
    else if (given.id !== undefined) {
      detail.prepend(el("p", { class: "note error" }, "No image ", coordeval.isolated(visible(given.id, 80)), " in this view."));
    }
    arrive();
    // Figures grow while they are drawn and push the gallery down: arrive once more, unless the
    // reader has gone elsewhere meanwhile.
    let moved = false;
    const stay = () => { moved = true; };
    for (const name of ["wheel", "touchstart", "keydown", "pointerdown"]) {
      window.addEventListener(name, stay, { once: true, passive: true });
    }
    coordeval.charts.ready.then(() => moved || arrive());
  };
  const arrive = () =>
    document.getElementById("gallery").scrollIntoView({ behavior: "instant" });

  filters.onChange(() => {
    refresh().then(() => {});
    filters.toAddress(selected === null ? null : index.ids[selected]);
  });
  more.addEventListener("click", () => extend());
  window.addEventListener("hashchange", follow);
  filters.show();
  refresh();
  follow();
  return { step, choose, refresh, selected: () => selected };
})();
