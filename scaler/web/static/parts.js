"use strict";
// What every card is made of: elements without markup in strings, tables, tiles, bars, and words for numbers.
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function make(name, text, attributes = {}, ...children) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
  made.append(...children);
  return made;
}

// Times are shown where the service lives, as its picture has them.
const clock = (text, zone) => text ? new Date(text).toLocaleString([], { dateStyle: "short", timeStyle: "medium", timeZone: zone }) : "–";
const minute = (at, zone) => new Date(at).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit", timeZone: zone });
const known = (value, digits = 1) => value === null || value === undefined ? "–" : Number(value.toFixed(digits)).toString();
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s / 60} min`;
  return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
}

const money = (amount, currency) => amount === null || amount === undefined ? "–" : `${amount.toFixed(amount < 10 ? 2 : 0)} ${currency}`;

function table(caption, heads, rows) {
  const head = make("tr");
  heads.forEach((h) => head.append(make("th", h, { scope: "col" })));
  const body = make("tbody");
  for (const cells of rows) {
    const row = make("tr");
    cells.forEach((c) => row.append(c instanceof Node ? c : make("td", c)));
    body.append(row);
  }
  const made = make("table", null, { "aria-label": caption }, make("thead", null, {}, head), body);
  return make("div", null, { class: "wide", tabindex: "0", role: "group", "aria-label": caption }, made);
}

const steps = (rows) => table("Steps of the decision", ["step", "before", "after", "because"], rows.map((s) =>
  [s.name, s.before, make("td", s.after, s.before === s.after ? {} : { class: "changed" }), s.because]));

function whyNot(alternatives) {
  const made = make("ul", null, { class: "whynot" });
  for (const a of alternatives) {
    const rest = a.because.slice(String(a.replicas).length);
    made.append(make("li", null, {}, make("b", `Why not ${a.replicas}? `), `${a.replicas}${rest}`));
  }
  return made;
}

function tiles(rows) {
  const list = make("dl", null, { class: "tiles" });
  for (const [name, value, note, kind] of rows) {
    const tile = make("div", null, {}, make("dt", name), make("dd", value, kind ? { class: kind } : {}));
    if (note) tile.append(make("dd", note, { class: "note" }));
    list.append(tile);
  }
  return list;
}

// Cold starts by how long they took, as bars that say their numbers.
function distribution(starts) {
  const { bounds_s: bounds, counts } = starts;
  const first = counts.findIndex((c) => c > 0), last = counts.findLastIndex((c) => c > 0);
  const shown = counts.slice(first, last + 1), most = Math.max(...shown), width = 56;
  const svg = drawn("svg", { viewBox: `0 0 ${shown.length * width} 84`, role: "img", width: shown.length * width, height: 84,
    "aria-label": `${plural(starts.count, "cold start")}: half within ${starts.p50_s} s, nine of ten within ${starts.p90_s} s` });
  shown.forEach((count, i) => {
    const height = 48 * count / most, name = first + i < bounds.length ? `≤ ${bounds[first + i]} s` : `> ${bounds.at(-1)} s`;
    svg.append(drawn("rect", { class: count === most ? "bar most" : "bar", x: i * width + 6, y: 62 - height, width: width - 12, height }));
    svg.append(drawn("text", { x: (i + .5) * width, y: 58 - height, "text-anchor": "middle" }, String(count)));
    svg.append(drawn("text", { x: (i + .5) * width, y: 78, "text-anchor": "middle" }, name));
  });
  return make("div", null, { class: "wide", tabindex: "0", role: "group", "aria-label": "Cold starts by duration" }, svg);
}
