// One service: what is and why, its picture with the past to look into, and what can be done about it.
const LEGEND = [["load", "requests a second"], ["expected", "expected (1 in 10 to 9 in 10)"], ["busy", "in flight"], ["queued", "queued"],
  ["ready", "ready"], ["starting", "starting"], ["draining", "draining"], ["desired", "desired"], ["floor", "least by the schedule"],
  ["off", "off hours"], ["pin", "pinned"]];

// Its frame is made once, so that a refresh takes no focus and no half-typed number away.
function card(name) {
  const parts = {};
  for (const p of ["facts", "picture", "past", "money", "more"]) parts[p] = make("div", null, { class: p });
  for (const [k, v] of Object.entries({ tabindex: "0", role: "group", "aria-label": `Picture of ${name}` })) parts.picture.setAttribute(k, v);
  parts.head = make("div", null, { class: "head" }, make("h2", name, { id: `s-${name}` }));
  parts.readout = make("p", "", { class: "readout", role: "status" });
  const legend = make("ul", null, { class: "legend" });
  LEGEND.forEach(([k, text]) => legend.append(make("li", text, { class: `l-${k}` })));
  const section = make("section", null, { id: name, "aria-labelledby": `s-${name}` }, parts.head, parts.facts, parts.picture,
    scrubber(name, parts), parts.readout, legend, parts.past, actions(name, parts), parts.money, parts.more);
  return { section, parts };
}

const zoneOf = (parts) => parts.service?.schedule.timezone;

// -- the past

function scrubber(name, parts) {
  const scrub = make("input", null, { type: "range", min: "0", max: "1000", value: "1000", id: `when-${name}` });
  const when = make("output", "now", { for: `when-${name}` });
  const back = make("button", "Back to now", { type: "button", hidden: "" });
  let pending = 0;
  const look = () => {
    const span = spanOf(parts);
    if (!span) return;
    const live = scrub.value === "1000";
    const at = new Date((span.since + (span.now - span.since) * scrub.value / 1000) * 1000);
    when.textContent = live ? "now" : clock(at.toISOString(), zoneOf(parts));
    back.hidden = live;
    parts.at = live ? null : at.getTime() / 1000;
    cross(parts);
    clearTimeout(pending);
    pending = setTimeout(() => explain(name, parts, live ? null : at), 150);
  };
  scrub.addEventListener("input", look);
  back.addEventListener("click", () => { scrub.value = "1000"; look(); scrub.focus(); });
  parts.picture.addEventListener("pointermove", (event) => { parts.hover = timeAt(parts, event); cross(parts); });
  parts.picture.addEventListener("pointerleave", () => { parts.hover = null; cross(parts); });
  parts.picture.addEventListener("click", (event) => {
    const span = spanOf(parts), at = timeAt(parts, event);
    if (!span || at === null) return;
    scrub.value = String(Math.round(Math.min(1, Math.max(0, (at - span.since) / (span.now - span.since))) * 1000));
    look();
  });
  return make("div", null, { class: "row" }, make("label", "Why then?", { for: `when-${name}` }), scrub, when, back);
}

function spanOf(parts) {
  const svg = parts.picture.querySelector("svg");
  if (!svg) return null;
  const found = Object.fromEntries(Object.entries(svg.dataset).map(([k, v]) => [k, Number(v)]));
  return { ...found, svg };
}

function timeAt(parts, event) {
  const span = spanOf(parts);
  if (!span) return null;
  const box = span.svg.getBoundingClientRect(), scale = span.svg.viewBox.baseVal.width / box.width;
  const share = ((event.clientX - box.left) * scale - span.left) / (span.right - span.left);
  return share < 0 || share > 1 ? null : span.since + share * (span.until - span.since);
}

// A line at the time looked at, and what is known of it in words.
function cross(parts) {
  const span = spanOf(parts), at = parts.hover ?? parts.at ?? null;
  parts.picture.querySelector(".cross")?.remove();
  parts.readout.textContent = "";
  if (!span || at === null) return;
  const x = span.left + (span.right - span.left) * (at - span.since) / (span.until - span.since);
  span.svg.append(drawn("path", { class: "cross", d: `M${x},22V${span.svg.viewBox.baseVal.height - 26}` }));
  const past = parts.history;
  if (!past || at > span.now) return;
  const i = Math.min(past.points.desired.length - 1, Math.floor((at - Date.parse(past.since) / 1000) / past.step_s));
  if (i < 0) return;
  const p = Object.fromEntries(Object.entries(past.points).map(([k, v]) => [k, v[i]]));
  const fleet = p.ready === null ? "nothing was recorded" :
    `${p.ready} ready, ${p.starting} starting, ${p.draining} draining, ${p.desired} desired`;
  const load = p.arrivals_per_s === null ? "load not known" :
    `${known(p.arrivals_per_s)} requests a second, ${known(p.in_flight)} in flight, ${known(p.queued, 0)} queued`;
  parts.readout.textContent = `${minute(at * 1000, zoneOf(parts))}: ${fleet}; ${load}${p.off ? "; off" : ""}`;
}

async function explain(name, parts, at) {
  if (at === null) { parts.past.replaceChildren(); return; }
  try {
    const told = await json("GET", `services/${name}/explain?at=${encodeURIComponent(at.toISOString())}`);
    const d = told.decision, before = told.before;
    const change = !before ? "" : before.desired === d.desired ? " (as before)" : ` (${before.desired} before)`;
    const made = [make("h3", `${clock(d.at, zoneOf(parts))}: ${d.desired} desired${change}`), make("p", d.because), whyNot(d.alternatives)];
    if (d.actions.length) made.push(make("p", `Did: ${d.actions.join("; ")}.`));
    made.push(steps(d.steps));
    const notes = [`Ticked by ${d.cause} in ${duration(d.seconds)}.`];
    if (d.reproduced !== null) notes.push(d.reproduced ? "Made again from its record: the same." : "Made again from its record: not the same, it was another version.");
    if (d.shadow) notes.push(`The shadow policy would have had ${d.shadow.desired}: ${d.shadow.because}`);
    made.push(make("p", notes.join(" "), { class: "soft" }));
    parts.past.replaceChildren(...made);
  } catch (error) {
    parts.past.replaceChildren(make("p", error.message, { class: "soft" }));
  }
}

// -- what can be done

function actions(name, parts) {
  const count = make("input", null, { id: `pin-${name}`, type: "number", min: "0", value: "1", required: "" });
  const most = make("input", null, { id: `most-${name}`, type: "number", min: "0", placeholder: "same" });
  const span = make("input", null, { id: `for-${name}`, value: "1h", size: "5" });
  parts.count = count;
  parts.most = most;
  const form = make("form", null, { "aria-label": `Change ${name}` }, make("label", "Pin to", { for: `pin-${name}` }), count,
    make("label", "up to", { for: `most-${name}` }), most, make("label", "for", { for: `for-${name}` }), span, make("button", "Pin…"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const least = Number(count.value), upper = most.value === "" ? least : Number(most.value);
    const body = upper === least ? { replicas: least, for: span.value } : { min: least, max: upper, for: span.value };
    act(parts, `Pin ${name} to ${upper === least ? least : `${least} to ${upper}`} for ${span.value}?`, "PUT", `services/${name}/pin`, body);
  });
  for (const [text, title, method, path] of [["Unpin…", `Take the pin of ${name} away?`, "DELETE", "pin"],
    ["Tick…", `Tick ${name} now?`, "POST", "tick"], ["Wake…", `Wake ${name}?`, "POST", "wake"]]) {
    const button = make("button", text, { type: "button" });
    button.addEventListener("click", () => act(parts, title, method, `services/${name}/${path}`, {}));
    form.append(button);
    if (path === "pin") parts.unpin = button;
  }
  return form;
}

// What comes of it is asked first and shown; only then it is sent.
async function act(parts, title, method, path, body) {
  try {
    const { effect } = await json(method, `${path}?dry_run=true`, body);
    const was = parts.service.desired ?? 0, cost = parts.service.cost;
    const more = effect.desired === null ? 0 : effect.desired - was;
    const rent = more && cost ? `, ${more > 0 ? "+" : "−"}${money(Math.abs(more) * cost.replica_hour, cost.currency)} an hour` : "";
    const change = effect.desired === null ? "" : `${was} → ${effect.desired} desired${rent}`;
    const because = effect.because ?? "There was no tick yet, so what comes of it is not known.";
    if (!await confirmed(title, change, because, effect.steps)) return;
    const told = await json(method, path, { ...body, reason: byId("reason").value });
    await show();
    const outcome = { saved: "done", lost: "written; another tick has the turn and takes it into account" }[told.effect.outcome] ?? told.effect.outcome;
    say(`${told.service}: ${outcome}. ${told.effect.because ?? ""}`);
  } catch (error) {
    say(error.message);
  }
}

async function confirmed(title, change, effect, rows) {
  byId("confirm-title").textContent = title;
  byId("confirm-change").textContent = change;
  byId("confirm-effect").textContent = effect;
  byId("confirm-steps").replaceChildren(...(rows.length ? [steps(rows)] : []));
  byId("reason").value = "";
  const dialog = byId("confirm");
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  return dialog.returnValue === "send";
}

// -- what is

function state(s) {
  const worst = ["error", "warning"].find((k) => s.conditions.some((c) => c.severity === k));
  if (worst) return [worst, plural(s.conditions.filter((c) => c.severity === worst).length, worst)];
  if (s.at === null) return ["info", "no tick yet"];
  if (s.off) return ["info", `off until ${s.opens_at ? clock(s.opens_at, s.schedule.timezone) : "further notice"}`];
  if (s.replicas.starting) return ["info", `${plural(s.replicas.starting, "replica")} starting`];
  return ["good", s.desired === 0 ? "at rest" : "steady"];
}

function chips(s) {
  const [kind, text] = state(s), made = [make("span", text, { class: `chip ${kind}` })];
  if (s.pin) made.push(make("span", "pinned", { class: "chip info" }));
  if (s.data && s.data !== "fresh") made.push(make("span", `data ${s.data}`, { class: "chip warning" }));
  made.push(make("span", s.at ? `ticked ${duration(Math.max(0, (now - Date.parse(s.at)) / 1000))} ago` : "never ticked", { class: "soft" }));
  return made;
}

function facts(s) {
  const seen = s.observation ?? {}, rate = seen.arrivals === null || !seen.window_s ? null : seen.arrivals / seen.window_s;
  const made = [make("p", s.because, { class: "because" }), whyNot(s.alternatives)];
  if (s.pin) {
    const count = s.pin.min === s.pin.max ? s.pin.min : `${s.pin.min}–${s.pin.max}`;
    made.push(make("p", `Pinned to ${count} until ${clock(s.pin.until, s.schedule.timezone)} by ${s.pin.actor}. ${s.pin.reason}`, { class: "pinned" }));
  }
  for (const c of s.conditions) {
    made.push(make("div", null, { class: `condition ${c.severity}` }, make("p", null, {}, make("b", `${c.name.replaceAll("_", " ")}: `), c.message),
      make("p", c.remedy, { class: "remedy" })));
  }
  made.push(tiles([["desired", s.desired ?? "–", `of ${s.bounds.min} to ${s.bounds.max}`], ["ready", s.replicas.ready, null, "ready"],
    ["starting", s.replicas.starting], ["draining", s.replicas.draining], ["requests a second", known(rate)],
    ["in flight", known(seen.in_flight), seen.queued === null ? null : `${known(seen.queued, 0)} queued`]]));
  return made;
}

function moneyAndStarts(s, starts) {
  const cost = s.cost, rows = [];
  if (cost) {
    const limit = (most) => most === null ? "no limit" : `of ${money(most, cost.currency)}`;
    rows.push(["cost today", money(cost.today, cost.currency), limit(cost.daily)], ["this month", money(cost.month, cost.currency), limit(cost.monthly)],
      ["month forecast", money(cost.month_forecast, cost.currency), cost.monthly === null ? "no limit" :
        cost.month_forecast > cost.monthly ? "above the budget" : "within the budget"], ["one replica", money(cost.replica_hour, cost.currency), "an hour"]);
  }
  if (starts) rows.push(["cold start", `${known(starts.p50_s)} s`, `half of ${starts.count}`], ["slow start", `${known(starts.p90_s)} s`, "nine of ten"]);
  const made = rows.length ? [tiles(rows)] : [];
  if (cost && cost.monthly) {
    made.push(make("progress", null, { max: cost.monthly, value: Math.min(cost.month, cost.monthly), "aria-label":
      `${money(cost.month, cost.currency)} of ${money(cost.monthly, cost.currency)} spent this month` }));
  }
  if (starts) made.push(make("h3", "Cold starts in this span"), distribution(starts));
  const phases = Object.entries(s.starts.median).filter(([name, seconds]) => name !== "total_s" && seconds !== null);
  if (phases.length) {
    made.push(make("p", `Where a start spends its time, in the middle: ${phases.map(([name, seconds]) => `${name.slice(0, -2)} ${known(seconds)} s`).join(", ")}.`,
      { class: "soft" }));
  }
  return made;
}

// The versions there were, and the way back: what it leads to is said before it is sent.
function versions(name, parts) {
  const r = parts.rollout;
  if (!r || !r.versions.length) return [];
  const made = [make("h3", "Versions"), make("p", `${r.progress}. ${r.because}`, { class: "soft" }),
    table("Versions", ["version", "image", "since", "ready", "how it ended"], r.versions.map((v) =>
      [v.version === r.target ? `${v.version} (wanted)` : v.version, v.image, clock(v.at, zoneOf(parts)), v.ready, v.ended || (v.good_at ? "good" : "–")]))];
  const back = r.versions.find((v) => v.version !== r.target && v.good_at);
  const row = make("div", null, { class: "row" });
  if (back) row.append(turn(parts, "Go back…", `Take ${name} back to version ${back.version}?`, name, "undo",
    `New replicas are made from ${back.image}; they come beside those that run, and take over once they are ready.`));
  if (r.configured && r.configured !== r.target) row.append(turn(parts, "Try again…", `Try version ${r.configured} once more?`, name, "retry",
    "It comes beside the version that runs, and is taken back if it fails again."));
  return [...made, row];
}

function turn(parts, text, title, name, action, effect) {
  const button = make("button", text, { type: "button" });
  button.addEventListener("click", async () => {
    try {
      if (!await confirmed(title, "", effect, [])) return;
      const told = await json("POST", `services/${name}/rollout`, { action, reason: byId("reason").value });
      parts.rollout = told;
      await show();
      say(`${name}: ${told.progress}.`);
    } catch (error) {
      say(error.message);
    }
  });
  return button;
}

function more(s, parts) {
  const changes = parts.changes ?? [];
  const made = make("details", null, {}, make("summary", "Steps, replicas, changes and versions"), steps(s.steps));
  if (s.fleet.length) {
    made.append(make("h3", "Replicas"), table("Replicas", ["replica", "phase", "since", "region", "address", "why"],
      s.fleet.map((r) => [r.name, r.phase, clock(r.phase_at, s.schedule.timezone), r.region, r.address ?? "–", r.because])));
  }
  if (changes.length) {
    made.append(make("h3", "Recent changes"), table("Recent changes", ["when", "desired", "by", "because"],
      changes.map((d) => [clock(d.at, s.schedule.timezone), d.desired, d.cause, d.because])));
  }
  made.append(...versions(s.service, parts));
  return made;
}
