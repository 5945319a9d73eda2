// Dark and light: as the system says, until the button says otherwise.
coordeval.theme = (() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const listeners = [];
  let chosen = null;

  const current = () => chosen ?? (dark.matches ? "dark" : "light");
  const apply = () => {
    document.documentElement.dataset.theme = current();
    for (const listener of listeners) listener(current());
  };
  const toggle = () => {
    chosen = current() === "dark" ? "light" : "dark";
    apply();
  };
  dark.addEventListener("change", () => chosen ?? apply());
  document.getElementById("theme").addEventListener("click", toggle);
  document.documentElement.dataset.theme = current();
  return { current, toggle, onChange: (listener) => listeners.push(listener) };
})();
