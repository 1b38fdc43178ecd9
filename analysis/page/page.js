"use strict";
const number = text => /^[+-]?(\d[\d.]*(?:e[+-]?\d+)?)/i.test(text) ? parseFloat(text) : null;
/// What a click does, Enter and the space bar do, too.
const onActivate = (element, act) => {
  element.tabIndex = 0;
  element.addEventListener("click", act);
  element.addEventListener("keydown", event => {
    if (event.target !== element || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    act();
  });
};
for (const head of document.querySelectorAll("th")) head.scope = "col";
for (const head of document.querySelectorAll("th")) onActivate(head, () => {
  const table = head.closest("table"), body = table.tBodies[0], column = [...head.parentNode.children].indexOf(head);
  for (const open of body.querySelectorAll("tr.details")) open.remove();
  for (const row of body.querySelectorAll("tr.cell")) row.setAttribute("aria-expanded", "false");
  const order = head.dataset.order === "1" ? -1 : 1;
  for (const other of head.parentNode.children) { delete other.dataset.order; other.removeAttribute("aria-sort"); }
  head.dataset.order = order;
  head.setAttribute("aria-sort", order === 1 ? "ascending" : "descending");
  const key = row => { const text = row.cells[column].textContent.trim(); return [text, number(text)]; };
  // The paper's rows that are compared with ours, and the differences, stay behind ours.
  const blocks = [];
  for (const row of [...body.rows]) {
    const next = row.nextElementSibling, compared = next && next.className === "difference";
    const follows = row.className === "difference" || (row.className === "paper" && compared);
    if (follows && blocks.length) blocks[blocks.length - 1].push(row); else blocks.push([row]);
  }
  const keyed = blocks.map(block => [key(block[0]), block]);
  keyed.sort(([[a, x]], [[b, y]]) => {
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1;
    return order * (x !== null && y !== null ? x - y : a.localeCompare(b, undefined, {numeric: true}));
  });
  body.append(...keyed.flatMap(([, block]) => block));
});
const store = document.getElementById("cells-data") && JSON.parse(document.getElementById("cells-data").textContent);
const setAt = (config, path, value) => {
  const parts = path.match(/[^.\[\]]+|\[\d+\]/g);
  let at = config;
  parts.forEach((part, i) => {
    const key = part[0] === "[" ? Number(part.slice(1, -1)) : part;
    if (i === parts.length - 1) at[key] = value; else at = at[key] ?? (at[key] = parts[i + 1][0] === "[" ? [] : {});
  });
};
/// The config of a cell, put together again.
const configOf = cell => {
  const config = structuredClone(store.configs[cell.config]);
  for (const [path, value] of Object.entries(cell.overrides)) setAt(config, path, value);
  return config;
};
const add = (place, name, text) => {
  const element = document.createElement(name);
  element.textContent = text;
  place.append(element);
  return element;
};
const describe = (place, cell) => {
  const provenance = Object.assign({}, store.provenances[cell.provenance], cell.own);
  add(place, "h3", "scores");
  const scores = cell.scores.map(([task, metric, value, error]) => `${task} ${metric}: ${value}${error ? " ±" + error : ""}`);
  add(place, "pre", scores.join("\n") || "none");
  if (cell.rerun) { add(place, "h3", "to run it again"); add(place, "pre", cell.rerun).className = "rerun"; }
  const parts = {"what distinguishes it": cell.overrides, "seconds": cell.seconds, provenance, config: configOf(cell)};
  for (const [name, value] of Object.entries(parts)) {
    add(place, "h3", name);
    add(place, "pre", JSON.stringify(value, null, 2));
  }
};
for (const row of document.querySelectorAll("tr.cell")) {
  row.setAttribute("aria-expanded", "false");
  onActivate(row, () => {
    const next = row.nextElementSibling, open = next && next.classList.contains("details");
    row.setAttribute("aria-expanded", String(!open));
    if (open) return next.remove();
    const details = row.parentNode.insertRow(row.sectionRowIndex + 1), place = details.insertCell();
    details.className = "details"; place.colSpan = row.cells.length;
    describe(place, store.cells[Number(row.dataset.cell)]);
  });
}

// Cells as points: quality against the bytes of the cache.
const wanted = new Set(store ? store.cells.keys() : []);
const svg = (name, attributes, text) => {
  const element = document.createElementNS("http" + "://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const short = value => Number(value.toPrecision(4)).toString();
const settings = cell => Object.entries(cell.overrides).map(([path, value]) => `${path} = ${JSON.stringify(value)}`);
const tip = document.createElement("div");
tip.id = "tip"; tip.hidden = true; tip.setAttribute("aria-hidden", "true");
const showTip = (point, cell) => {
  const box = point.getBoundingClientRect();
  tip.textContent = [cell.name, `${store.quality}: ${short(cell.quality)}`, `${short(cell.bytes)} bytes per token`,
                     ...settings(cell)].join("\n");
  tip.hidden = false;
  tip.style.left = `${Math.max(8, Math.min(box.right + 8 + scrollX, scrollX + innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.bottom + 6 + scrollY}px`;
};
const pick = (point, cell) => {
  const place = document.getElementById("picked");
  for (const other of document.querySelectorAll("#explore circle")) other.classList.toggle("picked", other === point);
  place.replaceChildren();
  add(place, "h3", cell.name);
  describe(place, cell);
};
const isBetter = (a, b) => store.higher_is_better ? a > b : a < b;
const drawPoints = () => {
  const place = document.getElementById("explore");
  place.replaceChildren();
  const points = [...wanted].map(i => store.cells[i]).filter(cell => cell.bytes > 0 && cell.quality !== null);
  if (points.length < 2) return;
  points.sort((a, b) => a.bytes - b.bytes || (isBetter(a.quality, b.quality) ? -1 : 1));
  const width = 900, height = 380, left = 70, right = 20, top = 20, bottom = 50;
  // Values that span a decade or more stand on a logarithmic axis.
  const qualities = points.map(cell => cell.quality), least = Math.min(...qualities);
  const logarithmic = least > 0 && Math.max(...qualities) > 10 * least;
  const up = value => logarithmic ? Math.log(value) : value, back = value => logarithmic ? Math.exp(value) : value;
  const xs = points.map(cell => Math.log2(cell.bytes)), ys = qualities.map(up);
  const scale = (values, from, to) => {
    const low = Math.min(...values), high = Math.max(...values), room = (high - low || 1) * 0.06;
    return value => from + (value - low + room) / (high - low + 2 * room || 1) * (to - from);
  };
  const x = scale(xs, left, width - right), y = scale(ys, height - bottom, top);
  const picture = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "group",
                              "aria-label": `${store.quality} against bytes of the cache per token, ${points.length} cells`});
  picture.append(svg("path", {class: "axis", fill: "none", d: `M${left} ${top}V${height - bottom}H${width - right}`}));
  const ticks = values => [...new Set([Math.min(...values), (Math.min(...values) + Math.max(...values)) / 2, Math.max(...values)])];
  for (const at of ticks(xs))
    picture.append(svg("text", {x: x(at), y: height - bottom + 18, "text-anchor": "middle"}, short(2 ** at)));
  for (const at of ticks(ys))
    picture.append(svg("text", {x: left - 8, y: y(at) + 4, "text-anchor": "end"}, short(back(at))));
  picture.append(svg("text", {x: (left + width - right) / 2, y: height - 10, "text-anchor": "middle"},
                     "bytes of the cache per token"));
  picture.append(svg("text", {x: left, y: 14}, store.quality));
  let best = null, line = "";
  const front = new Set();
  for (const cell of points) {
    if (best !== null && !isBetter(cell.quality, best)) continue;
    line += best === null ? `M${x(Math.log2(cell.bytes))} ${y(up(cell.quality))}`
                          : `H${x(Math.log2(cell.bytes))}V${y(up(cell.quality))}`;
    best = cell.quality; front.add(cell);
  }
  picture.append(svg("path", {class: "front", d: line}));
  for (const cell of points) {
    const point = svg("circle", {cx: x(Math.log2(cell.bytes)), cy: y(up(cell.quality)), r: 6, tabindex: 0, role: "button",
      class: front.has(cell) ? "on-front" : "",
      "aria-label": `${cell.name}: ${store.quality} ${short(cell.quality)} at ${short(cell.bytes)} bytes per token` +
                    (front.has(cell) ? ", on the Pareto front" : "")});
    for (const event of ["mouseenter", "focus"]) point.addEventListener(event, () => showTip(point, cell));
    for (const event of ["mouseleave", "blur"]) point.addEventListener(event, () => { tip.hidden = true; });
    onActivate(point, () => pick(point, cell));
    picture.append(point);
  }
  place.append(picture);
  add(place, "p", "Filled: no other cell is as good at as few bytes. A point shows its cell by a click or Enter.").className = "notes";
};

// Filters: words, and a choice for each setting with a few values.
const filter = document.getElementById("filter"), choices = new Map();
const applyFilters = () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("tr.cell")) {
    const index = Number(row.dataset.cell), cell = store.cells[index], text = row.textContent.toLowerCase();
    const chosen = [...choices].every(([path, select]) =>
      select.value === "" || JSON.stringify(cell.overrides[path] ?? null) === select.value);
    row.hidden = !chosen || !words.every(word => text.includes(word));
    const next = row.nextElementSibling;
    if (next && next.classList.contains("details")) next.hidden = row.hidden;
    if (row.hidden) wanted.delete(index); else wanted.add(index);
  }
  document.getElementById("shown").textContent = `${wanted.size} of ${store.cells.length} cells`;
  drawPoints();
};
if (filter) {
  document.body.append(tip);
  const values = new Map();
  for (const cell of store.cells) for (const [path, value] of Object.entries(cell.overrides)) {
    if (!values.has(path)) values.set(path, new Set());
    values.get(path).add(JSON.stringify(value));
  }
  for (const [path, seen] of values) {
    if (seen.size < 2 || seen.size > 24) continue;
    const label = add(document.getElementById("filters"), "label", path + " "), select = add(label, "select", "");
    select.append(new Option("all", ""), ...[...seen].map(value => new Option(value.replace(/^"|"$/g, ""), value)));
    select.addEventListener("change", applyFilters);
    choices.set(path, select);
  }
  filter.addEventListener("input", applyFilters);
  document.addEventListener("keydown", event => { if (event.key === "Escape") tip.hidden = true; });
  applyFilters();
}
