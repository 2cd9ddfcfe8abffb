"use strict";
// The key lives in this variable alone: not in the address, not in storage, not in the page.
let key = "";
let timer = 0;
const byId = (id) => document.getElementById(id);
const cards = new Map();
const LEGEND = [["load", "requests a second"], ["busy", "in flight"], ["queued", "queued"], ["ready", "ready"],
  ["starting", "starting"], ["desired", "desired"], ["off", "off hours"], ["pin", "pinned"]];

function make(name, text, attributes = {}, ...children) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
  made.append(...children);
  return made;
}

async function ask(method, path, body) {
  const options = { method, headers: { "x-functions-key": key }, cache: "no-store", credentials: "same-origin" };
  const actor = byId("actor").value.trim();
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(actor ? { ...body, actor } : body);
  }
  const response = await fetch(path, options);
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(`${response.status}: ${told.detail || response.statusText || "refused; is this a key for that?"}`);
}

const json = async (...words) => (await ask(...words)).json();
const say = (text) => { byId("message").textContent = text; };
const clock = (text) => text ? new Date(text).toLocaleString([], { dateStyle: "short", timeStyle: "medium" }) : "–";

function table(caption, heads, rows) {
  const head = make("tr");
  heads.forEach((h) => head.append(make("th", h, { scope: "col" })));
  const body = make("tbody");
  for (const cells of rows) {
    const row = make("tr");
    cells.forEach((c) => row.append(make("td", c)));
    body.append(row);
  }
  const made = make("table", null, { "aria-label": caption }, make("thead", null, {}, head), body);
  return make("div", null, { class: "wide", tabindex: "0", role: "group", "aria-label": caption }, made);
}

const steps = (rows) => table("Steps of the decision", ["step", "before", "after", "because"],
  rows.map((s) => [s.name, s.before, s.after, s.because]));

// One card a service. Its frame is made once, so that a refresh takes no focus and no half-typed number away.
function card(name) {
  const parts = {};
  for (const p of ["facts", "picture", "past", "more"]) parts[p] = make("div", null, { class: p });
  for (const [k, v] of Object.entries({ tabindex: "0", role: "group", "aria-label": `Picture of ${name}` })) parts.picture.setAttribute(k, v);
  const legend = make("ul", null, { class: "legend" });
  LEGEND.forEach(([k, text]) => legend.append(make("li", text, { class: `l-${k}` })));
  const scrub = make("input", null, { type: "range", min: "0", max: "1000", value: "1000", id: `when-${name}` });
  const when = make("output", "now", { for: `when-${name}` });
  parts.scrub = scrub;
  let pending = 0;
  scrub.addEventListener("input", () => {
    const svg = parts.picture.querySelector("svg");
    if (!svg) return;
    const since = Number(svg.dataset.since), until = Number(svg.dataset.until);
    const at = new Date((since + (until - since) * scrub.value / 1000) * 1000);
    when.textContent = scrub.value === "1000" ? "now" : clock(at.toISOString());
    clearTimeout(pending);
    pending = setTimeout(() => explain(name, parts, scrub.value === "1000" ? null : at), 150);
  });
  parts.picture.addEventListener("click", (event) => {
    const svg = parts.picture.querySelector("svg");
    if (!svg) return;
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const left = Number(svg.dataset.left), right = Number(svg.dataset.right);
    const share = ((event.clientX - box.left) * scale - left) / (right - left);
    scrub.value = String(Math.round(Math.min(1, Math.max(0, share)) * 1000));
    scrub.dispatchEvent(new Event("input"));
  });
  const row = make("div", null, { class: "row" }, make("label", "Why then?", { for: `when-${name}` }), scrub, when);
  const section = make("section", null, { "aria-labelledby": `s-${name}` }, make("h2", name, { id: `s-${name}` }),
    parts.facts, parts.picture, legend, row, parts.past, actions(name, parts), parts.more);
  return { section, parts };
}

async function explain(name, parts, at) {
  if (at === null) { parts.past.replaceChildren(); return; }
  try {
    const told = await json("GET", `services/${name}/explain?at=${encodeURIComponent(at.toISOString())}`);
    const d = told.decision;
    const did = d.actions.length ? ` Did: ${d.actions.join("; ")}.` : "";
    parts.past.replaceChildren(make("h3", `${clock(d.at)}: ${d.desired} desired`), make("p", d.because + did), steps(d.steps));
  } catch (error) {
    parts.past.replaceChildren(make("p", error.message, { class: "soft" }));
  }
}

function actions(name, parts) {
  const count = make("input", null, { id: `pin-${name}`, type: "number", min: "0", value: "1" });
  const span = make("input", null, { id: `for-${name}`, value: "1h", size: "6" });
  parts.count = count;
  const form = make("form", null, { "aria-label": `Change ${name}` }, make("label", "Pin to", { for: `pin-${name}` }), count,
    make("label", "for", { for: `for-${name}` }), span, make("button", "Pin…"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(`Pin ${name} to ${count.value} for ${span.value}?`, "PUT", `services/${name}/pin`,
      { replicas: Number(count.value), for: span.value }, true);
  });
  for (const [text, title, method, path, dry] of [
    ["Unpin…", `Take the pin of ${name} away?`, "DELETE", "pin", true],
    ["Tick…", `Tick ${name} now?`, "POST", "tick", false], ["Wake…", `Wake ${name}?`, "POST", "wake", false]]) {
    const button = make("button", text, { type: "button" });
    button.addEventListener("click", () => act(title, method, `services/${name}/${path}`, {}, dry));
    form.append(button);
  }
  return form;
}

// What comes of it is asked first and shown; only then it is sent.
async function act(title, method, path, body, dry) {
  try {
    let effect = "It looks at once and decides by the same rules as ever.";
    if (dry) {
      const { effect: e } = await json(method, `${path}?dry_run=true`, body);
      effect = e.desired === null ? "There was no tick yet, so what comes of it is not known." : `${e.desired} desired. ${e.because}`;
    }
    byId("confirm-title").textContent = title;
    byId("confirm-effect").textContent = effect;
    byId("reason").value = "";
    const dialog = byId("confirm");
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
    if (dialog.returnValue !== "send") return;
    const told = await json(method, path, { ...body, reason: byId("reason").value });
    await show();
    say(`${told.service}: ${told.effect.outcome}. ${told.effect.because ?? ""}`);
  } catch (error) {
    say(error.message);
  }
}

function facts(s, starts) {
  const list = make("dl");
  for (const [name, value] of [["desired", s.desired ?? "–"], ["ready", s.replicas.ready], ["starting", s.replicas.starting],
    ["draining", s.replicas.draining], ["bounds", `${s.bounds.min}–${s.bounds.max}`], ["data", s.data ?? "–"],
    ["cold start", starts ? `${starts.p50_s} s` : "–"], ["ticked", s.at ? clock(s.at) : "never"]]) {
    list.append(make("div", null, {}, make("dt", name), make("dd", value)));
  }
  const made = [make("p", s.because, { class: "because" }), list];
  if (starts) made.push(make("p", `${starts.count} cold starts: half within ${starts.p50_s} s, nine of ten within ${starts.p90_s} s.`, { class: "soft" }));
  if (s.off) made.push(make("p", `Off until ${s.opens_at ? clock(s.opens_at) : "further notice"}.`));
  if (s.pin) {
    const count = s.pin.min === s.pin.max ? s.pin.min : `${s.pin.min}–${s.pin.max}`;
    made.push(make("p", `Pinned to ${count} until ${clock(s.pin.until)} by ${s.pin.actor}. ${s.pin.reason}`, { class: "pinned" }));
  }
  for (const c of s.conditions) made.push(make("p", `${c.name}: ${c.message}. ${c.remedy}`, { class: "bad" }));
  return made;
}

function more(s) {
  const made = make("details", null, {}, make("summary", "Steps and replicas"), steps(s.steps));
  if (s.fleet.length) {
    made.append(table("Replicas", ["replica", "phase", "since", "region", "address", "why"],
      s.fleet.map((r) => [r.name, r.phase, clock(r.phase_at), r.region, r.address ?? "–", r.because])));
  }
  return made;
}

async function refresh(name) {
  if (!cards.has(name)) cards.set(name, card(name));
  const { parts } = cards.get(name);
  const minutes = byId("span").value;
  const [s, past, svg] = await Promise.all([json("GET", `services/${name}`),
    json("GET", `services/${name}/history?points=10&minutes=${minutes}`),
    ask("GET", `services/${name}/chart?minutes=${minutes}`).then((r) => r.text())]);
  parts.facts.replaceChildren(...facts(s, past.starts));
  const picture = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  const atEnd = !parts.picture.firstChild || parts.picture.scrollLeft + parts.picture.clientWidth >= parts.picture.scrollWidth - 4;
  parts.picture.replaceChildren(document.importNode(picture, true));
  if (atEnd) parts.picture.scrollLeft = parts.picture.scrollWidth; // on a phone the newest is what is seen first
  const wasOpen = parts.more.querySelector("details")?.open ?? false;
  parts.more.replaceChildren(more(s));
  parts.more.querySelector("details").open = wasOpen;
  parts.count.max = s.bounds.max;
}

async function show() {
  const told = await json("GET", "services");
  const names = told.services.map((s) => s.service);
  await Promise.all(names.map(refresh));
  const frame = byId("services");
  if (frame.childElementCount !== names.length) frame.replaceChildren(...names.map((n) => cards.get(n).section));
  say(`As of ${clock(told.at)}.`);
}

async function again() {
  clearTimeout(timer);
  let wait = 5000;
  try { await show(); } catch (error) { say(error.message); wait = 15000; }
  timer = setTimeout(again, wait);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value || key;
  byId("key").value = "";
  again();
});
byId("span").addEventListener("change", () => { if (cards.size) again(); });
