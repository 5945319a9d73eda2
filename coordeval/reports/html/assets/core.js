// The name under which all parts of the page meet, and how elements are made: from text alone,
// so that nothing a model or a dataset wrote can become markup.
const coordeval = {};

coordeval.read = (name) => JSON.parse(document.getElementById(`data-${name}`).textContent);

// Control, bidirectional and invisible signs: the same set that the terminal shows as escapes.
coordeval.HIDDEN =
  /[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]/gu;

coordeval.escapeSign = (sign) => {
  const named = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[sign];
  if (named) return named;
  const code = sign.codePointAt(0);
  const hex = code.toString(16);
  return code < 0x100 ? `\\x${hex.padStart(2, "0")}` : `\\u${hex.padStart(4, "0")}`;
};

coordeval.visible = (text, limit = Infinity) => {
  const points = Array.from(String(text));
  const cut = points.length > limit ? `${points.slice(0, limit).join("")}…` : String(text);
  return cut.replace(coordeval.HIDDEN, coordeval.escapeSign);
};

// el("p", {class: "lead", onclick: f}, "text", otherElement): attributes are set one by one,
// strings become text nodes.
coordeval.el = (tag, attributes = {}, ...children) =>
  coordeval.fill(document.createElement(tag), attributes, children);

coordeval.svg = (tag, attributes = {}, ...children) =>
  coordeval.fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

coordeval.fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

// Text of unknown direction, kept from reordering what stands around it.
coordeval.isolated = (text, attributes = {}) =>
  coordeval.el("bdi", attributes, coordeval.visible(text));

coordeval.count = (value) => (value === null ? "-" : value.toLocaleString("en-US"));
coordeval.plural = (count, noun) => `${coordeval.count(count)} ${noun}${count === 1 ? "" : "s"}`;
