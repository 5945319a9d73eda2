// Figures: Vega-Lite specifications drawn as SVG. Expressions are interpreted, never compiled,
// because the page's policy forbids making code from text.
coordeval.charts = (() => {
  const { el, visible } = coordeval;
  const figures = coordeval.read("figures");
  const themes = coordeval.read("themes");
  const tip = el("div", { class: "tip", role: "tooltip", hidden: true });
  document.body.append(tip);

  const showTip = (_handler, event, _item, value) => {
    if (value === null || value === undefined || value === "") {
      tip.hidden = true;
      return;
    }
    const rows = typeof value === "object" ? Object.entries(value) : [["", value]];
    tip.replaceChildren(
      ...rows.map(([name, text]) =>
        el("div", {}, el("span", { class: "tip-name" }, visible(name)), visible(text)),
      ),
    );
    tip.hidden = false;
    const space = { width: document.documentElement.clientWidth, height: window.innerHeight };
    const left = Math.min(event.clientX + 14, space.width - tip.offsetWidth - 8);
    const top = Math.min(event.clientY + 14, space.height - tip.offsetHeight - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };

  const NARROW_PX = 640;

  // On a phone a row of legend entries would leave the picture: each stands on a line of its own.
  const configFor = (place) => {
    const config = themes[coordeval.theme.current()];
    if (place.clientWidth >= NARROW_PX) return config;
    const layout = { top: { anchor: "start", direction: "vertical" } };
    return { ...config, legend: { ...config.legend, columns: 1, layout } };
  };

  const draw = async (figure) => {
    const place = document.getElementById(`chart-${figure.name}`);
    try {
      if (figure.view) figure.view.finalize();
      const drawn = await window.vegaEmbed(place, figure.spec, {
        actions: false,
        ast: true,
        config: configFor(place),
        defaultStyle: false,
        renderer: "svg",
        tooltip: showTip,
      });
      figure.view = drawn.view;
      place.dataset.drawn = coordeval.theme.current();
    } catch (error) {
      place.replaceChildren(
        el("p", { class: "missing" }, `This figure could not be drawn: ${error.message}`),
      );
      console.error(figure.name, error);
    }
  };

  const drawAll = () => Promise.all(figures.map(draw));
  coordeval.theme.onChange(drawAll);
  return { ready: drawAll() };
})();
