// What the gallery shows and in which order; all of it stands in the address, so that every view
// can be linked to.
coordeval.filters = (() => {
  const { el, visible, store } = coordeval;
  const { index } = store;
  const form = document.getElementById("filters");
  const KEYS = ["q", "run", "reason", "issue", "class", "size", "state", "versus", "sort"];
  const state = Object.fromEntries(KEYS.map((key) => [key, ""]));
  let listener = () => {};

  const STATES = [
    ["", "any outcome"],
    ["missed", "with missed objects"],
    ["wrong", "with wrong predictions"],
    ["dropped", "with dropped records"],
    ["copies", "with repeated objects"],
    ["loop", "with a loop"],
    ["error", "with an engine error"],
    ["clean", "without any failure"],
  ];
  const SORTS = [
    ["", "most failures first"],
    ["f1", "lowest F1 first"],
    ["dropped", "most dropped first"],
    ["copies", "most repeats first"],
    ["wasted", "most wasted tokens first"],
    ["objects", "most objects first"],
    ["change", "largest loss first"],
    ["order", "in run order"],
  ];

  const runNumber = () => {
    const found = index.runs.findIndex((run) => run.label === state.run);
    return found < 0 ? index.runs.length - 1 : found;
  };
  // The run that better and worse are measured against: the one named, else the first other one.
  const otherNumber = () => {
    const label = state.versus.slice(state.versus.indexOf(":") + 1);
    const found = index.runs.findIndex((run) => run.label === label);
    return found >= 0 ? found : runNumber() === 0 ? 1 : 0;
  };

  const change = (position) => {
    const other = index.runs[otherNumber()];
    const mine = index.runs[runNumber()].f1[position];
    if (!other || mine === null || other.f1[position] === null) return null;
    return mine - other.f1[position];
  };

  const has = (run, position, wanted) => {
    if (wanted === "error") return Boolean(run.failed[position]);
    if (wanted === "clean") return store.failures(run, position) === 0 && !run.failed[position];
    return run[wanted][position] > 0;
  };

  const bit = (names, name) => {
    const place = names.indexOf(name);
    return place < 0 ? 0 : 2 ** place;
  };

  const matchesText = (position, words) => {
    const names = index.classes[position].map((code) => index.class_names[code]);
    const hay = [index.ids[position], index.image[position] ?? "", ...names].join("\n");
    return words.every((word) => hay.toLowerCase().includes(word));
  };

  const positions = () => {
    const run = index.runs[runNumber()];
    if (!run) return [];
    const reason = bit(index.reasons, state.reason);
    const issue = bit(index.issues, state.issue);
    const size = bit(index.sizes, state.size);
    const code = index.class_names.indexOf(state.class);
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = [];
    for (let position = 0; position < index.ids.length; position += 1) {
      if (run.right[position] === null) continue;
      if (state.reason && !(run.reasons[position] & reason)) continue;
      if (state.issue && !(run.issues[position] & issue)) continue;
      if (state.size && !(index.object_sizes[position] & size)) continue;
      if (state.class && !index.classes[position].includes(code)) continue;
      if (state.state && !has(run, position, state.state)) continue;
      if (state.versus) {
        const delta = change(position);
        if (delta === null) continue;
        if (state.versus.startsWith("better") ? delta <= 0 : delta >= 0) continue;
      }
      if (words.length && !matchesText(position, words)) continue;
      kept.push(position);
    }
    return sorted(kept, run);
  };

  const sorted = (kept, run) => {
    const by = {
      "": (p) => -store.failures(run, p),
      f1: (p) => run.f1[p],
      dropped: (p) => -run.dropped[p],
      copies: (p) => -run.copies[p],
      wasted: (p) => -(run.wasted[p] ?? 0),
      objects: (p) => -run.objects[p],
      change: (p) => change(p) ?? Infinity,
      order: (p) => p,
    }[state.sort];
    return by ? kept.sort((a, b) => by(a) - by(b) || a - b) : kept;
  };

  const select = (name, label, options) => {
    const node = el(
      "select",
      { name, onchange: () => set({ [name]: node.value }) },
      ...options.map(([value, text]) => el("option", { value, dir: "auto" }, visible(text, 60))),
    );
    form.append(el("label", {}, el("span", {}, label), node));
    return node;
  };

  const present = (names, key) => {
    const all = index.runs.flatMap((run) => run[key]).reduce((bits, b) => bits | (b ?? 0), 0);
    return names.filter((name) => all & bit(names, name));
  };

  const build = () => {
    const search = el("input", {
      type: "search", name: "q", placeholder: "id, file or class", autocomplete: "off",
      "aria-keyshortcuts": "/", oninput: () => set({ q: search.value }),
    });
    form.append(el("label", { class: "wide" }, el("span", {}, "Search"), search));
    const pair = (values) => values.map((value) => [value, value]);
    if (index.runs.length > 1) select("run", "Run", pair(index.runs.map((run) => run.label)));
    select("state", "Outcome", STATES);
    select("reason", "Drop reason", [["", "any"], ...pair(present(index.reasons, "reasons"))]);
    select("issue", "Issue", [["", "any"], ...pair(present(index.issues, "issues"))]);
    const names = [...index.class_names].sort((a, b) => a.localeCompare(b));
    select("class", "Class", [["", "any"], ...pair(names)]);
    select("size", "Object size", [["", "any"], ...pair(index.sizes)]);
    if (index.runs.length > 1) {
      const labels = index.runs.map((run) => run.label);
      select("versus", "Against", [
        ["", "any"],
        ...labels.map((label) => [`better:${label}`, `better than ${label}`]),
        ...labels.map((label) => [`worse:${label}`, `worse than ${label}`]),
      ]);
    }
    const sorts = index.runs.length > 1 ? SORTS : SORTS.filter(([key]) => key !== "change");
    select("sort", "Order", sorts);
    form.append(
      el("button", { type: "button", class: "quiet", name: "reset", onclick: reset }, "Reset"),
    );
    form.addEventListener("submit", (event) => event.preventDefault());
  };

  const show = () => {
    for (const key of KEYS) {
      const node = form.elements.namedItem(key);
      if (!node) continue;
      node.value = key === "run" ? index.runs[runNumber()]?.label ?? "" : state[key];
      // An address may say anything; only what can be chosen is taken.
      if (node.tagName === "SELECT" && node.selectedIndex < 0) node.value = state[key] = "";
    }
  };
  const set = (changes) => {
    Object.assign(state, changes);
    show();
    listener();
  };
  const reset = () => set({ ...Object.fromEntries(KEYS.map((key) => [key, ""])), run: state.run });

  // `#id=0017&run=b&reason=wrong_arity`: what stands in an address, as an object.
  const fromAddress = () => {
    const hash = window.location.hash.slice(1);
    if (!hash.includes("=")) return null;
    return Object.fromEntries(new URLSearchParams(hash));
  };
  const toAddress = (id) => {
    const given = new URLSearchParams();
    if (id !== null) given.set("id", id);
    for (const key of KEYS) if (state[key]) given.set(key, state[key]);
    window.history.replaceState(null, "", `#${given}`);
  };

  build();
  return {
    state, set, show, positions, runNumber, otherNumber, change, fromAddress, toAddress, KEYS,
    search: form.elements.namedItem("q"),
    onChange: (callback) => { listener = callback; },
  };
})();
