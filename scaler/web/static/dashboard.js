// The key lives in this variable alone: not in the address, not in storage, not in the page.
let key = "";
let live = false; // without a key too: where Entra ID stands before the app, it is the browser that is signed in
let timer = 0;
let now = 0; // by the clock of the app
const cards = new Map();

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

// What is known of a service is shown as it arrives: first what is and why, then its past.
async function refresh(name) {
  const { parts } = cards.get(name), minutes = byId("span").value;
  const width = Math.round(Math.min(1200, Math.max(320, parts.picture.clientWidth || byId("services").clientWidth - 36)));
  const points = Math.max(60, Math.min(400, Math.round(width / 3)));
  const being = json("GET", `services/${name}`).then((s) => present(name, parts, s));
  const past = json("GET", `services/${name}/history?points=${points}&minutes=${minutes}`);
  const picture = ask("GET", `services/${name}/chart?points=${points}&width=${width}&minutes=${minutes}`).then((r) => r.text());
  const [s, history, svg] = await Promise.all([being, past, picture]);
  parts.history = history;
  parts.picture.replaceChildren(document.importNode(new DOMParser().parseFromString(svg, "image/svg+xml").documentElement, true));
  cross(parts);
  parts.money.replaceChildren(...moneyAndStarts(s, history.starts));
}

function present(name, parts, s) {
  if (parts.service?.desired !== s.desired) parts.changes = null;
  parts.service = s;
  parts.head.replaceChildren(parts.head.firstChild, ...chips(s));
  parts.facts.replaceChildren(...facts(s));
  parts.count.max = parts.most.max = s.bounds.max;
  parts.unpin.disabled = !s.pin;
  const details = more(s, parts);
  details.open = parts.more.querySelector("details")?.open ?? false;
  details.addEventListener("toggle", () => { if (details.open && !parts.changes) recent(name, parts); });
  parts.more.replaceChildren(details);
  return s;
}

// Which of the last ticks changed the count, and which versions there were; asked for only when somebody opens it.
async function recent(name, parts) {
  try {
    const [{ decisions }, rollout] = await Promise.all([json("GET", `services/${name}/decisions?limit=1000`),
      json("GET", `services/${name}/rollout`)]);
    parts.rollout = rollout;
    parts.changes = decisions.filter((d, i) => i + 1 < decisions.length && d.desired !== decisions[i + 1].desired).slice(0, 20);
    const details = more(parts.service, parts);
    details.open = true;
    parts.more.replaceChildren(details);
  } catch (error) {
    say(error.message);
  }
}

function overview(names) {
  byId("overview").hidden = names.length < 2;
  byId("overview").replaceChildren(...names.map((name) => {
    const [kind, text] = state(cards.get(name).parts.service);
    return make("a", `${name}: ${text}`, { href: `#${name}`, class: `chip ${kind}` });
  }));
}

async function show() {
  const told = await json("GET", "services");
  const names = told.services.map((s) => s.service);
  const frame = byId("services");
  now = Date.parse(told.at);
  for (const name of names) if (!cards.has(name)) cards.set(name, card(name));
  if (frame.childElementCount !== names.length) frame.replaceChildren(...names.map((n) => cards.get(n).section));
  await Promise.all(names.map(refresh));
  overview(names);
  signedIn(true);
  say(`As of ${clock(told.at)}.`);
}

function signedIn(yes) {
  byId("sign-in").hidden = yes;
  byId("forget").hidden = !yes;
  byId("show").textContent = yes ? "Refresh" : "Show";
}

async function again() {
  clearTimeout(timer);
  let wait = 5000;
  if (!document.hidden) {
    try { await show(); } catch (error) { say(error.message); wait = 15000; if (!cards.size || error.message.startsWith("401")) signedIn(false); }
  }
  if (live) timer = setTimeout(again, wait);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value || key;
  live = true;
  byId("key").value = "";
  again();
});
byId("forget").addEventListener("click", () => {
  key = "";
  live = false;
  clearTimeout(timer);
  cards.clear();
  byId("services").replaceChildren();
  byId("overview").replaceChildren();
  signedIn(false);
  say("The key is forgotten.");
  byId("key").focus();
});
byId("span").addEventListener("change", () => { if (cards.size) again(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && cards.size) again(); });
