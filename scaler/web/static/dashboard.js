"use strict";
// The key lives in this variable alone: not in the address, not in storage, not in the page.
let key = "";
let timer = 0;
const message = document.getElementById("message");
const services = document.getElementById("services");

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
  return made;
}

async function call(method, path, body) {
  const options = { method, headers: { "x-functions-key": key }, cache: "no-store", credentials: "same-origin" };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const told = await response.json().catch(() => ({ detail: response.statusText }));
  if (!response.ok) throw new Error(`${response.status}: ${told.detail || response.statusText || "refused"}`);
  return told;
}

function chart(decisions) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 640 140");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "Replicas desired and ready, of late");
  const rows = [...decisions].reverse();
  if (rows.length < 2) return svg;
  const times = rows.map((r) => Date.parse(r.at));
  const most = Math.max(1, ...rows.map((r) => Math.max(r.desired, r.replicas.ready || 0)));
  const x = (t) => 30 + (600 * (t - times[0])) / Math.max(1, times[times.length - 1] - times[0]);
  const y = (n) => 115 - (100 * n) / most;
  for (const [kind, of] of [["ready", (r) => r.replicas.ready || 0], ["desired", (r) => r.desired]]) {
    let d = "";
    rows.forEach((r, i) => { d += i ? `H${x(times[i]).toFixed(1)}V${y(of(r)).toFixed(1)}` : `M${x(times[0])},${y(of(r))}`; });
    const path = document.createElementNS(ns, "path");
    path.setAttribute("d", d);
    path.setAttribute("class", kind);
    svg.append(path);
  }
  const label = (text, left, top) => {
    const t = document.createElementNS(ns, "text");
    t.setAttribute("x", left); t.setAttribute("y", top); t.textContent = text;
    svg.append(t);
  };
  label(most, 8, 20); label(0, 8, 118);
  label(new Date(times[0]).toLocaleTimeString(), 30, 134);
  label(new Date(times[times.length - 1]).toLocaleTimeString(), 560, 134);
  return svg;
}

function figures(s) {
  const list = element("dl");
  for (const [name, value] of [["desired", s.desired ?? "–"], ["ready", s.replicas.ready], ["starting", s.replicas.starting],
    ["draining", s.replicas.draining], ["least", s.bounds.min], ["most", s.bounds.max]]) {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value));
    list.append(pair);
  }
  return list;
}

function actions(s) {
  const form = element("form");
  const id = `pin-${s.service}`;
  const count = element("input", null, { id, type: "number", min: "0", max: s.bounds.max, value: s.desired ?? 0 });
  const span = element("input", null, { value: "1h", size: "5", "aria-label": "for how long" });
  form.append(element("label", "Pin to", { for: id }), count, span, element("button", "Pin"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act("PUT", `services/${s.service}/pin`, { replicas: Number(count.value), for: span.value, reason: "from the dashboard" });
  });
  for (const [text, method, path] of [["Unpin", "DELETE", "pin"], ["Tick now", "POST", "tick"]]) {
    const button = element("button", text, { type: "button" });
    button.addEventListener("click", () => act(method, `services/${s.service}/${path}`, {}));
    form.append(button);
  }
  return form;
}

async function act(method, path, body) {
  try {
    const told = await call(method, path, body);
    await show();
    message.textContent = `${told.effect.outcome}: ${told.effect.because ?? ""}`;
  } catch (error) {
    message.textContent = error.message;
  }
}

async function card(line) {
  const [s, page] = await Promise.all([
    call("GET", `services/${line.service}`), call("GET", `services/${line.service}/decisions?limit=240`)]);
  const section = element("section", null, { "aria-labelledby": `s-${s.service}` });
  section.append(element("h2", s.service, { id: `s-${s.service}` }), element("p", s.because), figures(s), chart(page.decisions));
  if (s.pin) section.append(element("p", `Pinned to ${s.pin.min}–${s.pin.max} until ${s.pin.until} by ${s.pin.actor}. ${s.pin.reason}`));
  for (const c of s.conditions) section.append(element("p", `${c.message} ${c.remedy}`, { class: "bad" }));
  const steps = element("ol");
  for (const step of s.steps) steps.append(element("li", `${step.name}: ${step.before} → ${step.after}, ${step.because}`));
  section.append(steps, actions(s));
  return section;
}

async function show() {
  const told = await call("GET", "services");
  const cards = await Promise.all(told.services.map(card));
  if (!services.contains(document.activeElement) || document.activeElement.tagName === "BUTTON") services.replaceChildren(...cards);
  message.textContent = `As of ${new Date(told.at).toLocaleTimeString()}.`;
}

document.getElementById("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = document.getElementById("key");
  key = input.value || key;
  input.value = "";
  clearInterval(timer);
  const again = () => show().catch((error) => { message.textContent = error.message; });
  await again();
  timer = setInterval(again, 5000);
});
