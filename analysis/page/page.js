"use strict";
const number = text => /^[+-]?(\d[\d.]*(?:e[+-]?\d+)?)/i.test(text) ? parseFloat(text) : null;
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const table = head.closest("table"), body = table.tBodies[0], column = [...head.parentNode.children].indexOf(head);
  for (const open of body.querySelectorAll("tr.details")) open.remove();
  const order = head.dataset.order === "1" ? -1 : 1;
  for (const other of head.parentNode.children) delete other.dataset.order;
  head.dataset.order = order;
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
for (const row of document.querySelectorAll("tr.cell")) row.addEventListener("click", () => {
  const next = row.nextElementSibling;
  if (next && next.classList.contains("details")) return next.remove();
  const cell = store.cells[Number(row.dataset.cell)], config = structuredClone(store.configs[cell.config]);
  for (const [path, value] of Object.entries(cell.overrides)) setAt(config, path, value);
  const details = row.parentNode.insertRow(row.sectionRowIndex + 1), place = details.insertCell();
  details.className = "details"; place.colSpan = row.cells.length;
  const provenance = Object.assign({}, store.provenances[cell.provenance], cell.own);
  const parts = {"what distinguishes it": cell.overrides, "seconds": cell.seconds, provenance, config};
  for (const [name, value] of Object.entries(parts)) {
    const head = document.createElement("h3"), text = document.createElement("pre");
    head.textContent = name; text.textContent = JSON.stringify(value, null, 2); place.append(head, text);
  }
});
const filter = document.getElementById("filter");
if (filter) filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("tr.cell")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
});
