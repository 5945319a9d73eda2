// Keys: the page can be read without a mouse. None acts while something is typed.
coordeval.keyboard = (() => {
  const help = document.getElementById("help");
  const section = document.getElementById("gallery");
  const typing = (node) => node.matches("input:not([type=checkbox]), select, textarea");

  const inView = () => {
    const box = section.getBoundingClientRect();
    return box.top < window.innerHeight * 0.7 && box.bottom > window.innerHeight * 0.3;
  };
  const nextRun = () => {
    const { index } = coordeval.store;
    const next = (coordeval.filters.runNumber() + 1) % index.runs.length;
    coordeval.filters.set({ run: index.runs[next].label });
  };
  const search = () => {
    section.scrollIntoView({ behavior: "instant" });
    coordeval.filters.search.focus();
    coordeval.filters.search.select();
  };
  const walk = (by) => {
    if (!inView()) section.scrollIntoView({ behavior: "instant" });
    coordeval.gallery.step(by);
  };

  const KEYS = {
    j: () => walk(1),
    k: () => walk(-1),
    "/": search,
    "?": () => help.showModal(),
    r: nextRun,
    t: () => coordeval.theme.toggle(),
  };
  for (const [name, , key] of coordeval.overlay.LAYERS) {
    KEYS[key] = () => coordeval.overlay.toggle(name);
  }
  const ARROWS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const by = ARROWS[event.key];
    // Arrows scroll, as everywhere, unless the gallery is what is being read.
    const scrolls = event.target.closest(".rawtext") && event.key.match(/Up|Down/);
    if (by && inView() && !scrolls) {
      coordeval.gallery.step(by);
      event.preventDefault();
    } else if (KEYS[event.key]) {
      KEYS[event.key]();
      event.preventDefault();
    }
  });
  document.getElementById("keys").addEventListener("click", () => help.showModal());
  document.getElementById("help-close").addEventListener("click", () => help.close());
  return { KEYS };
})();
