// Shows what the launcher sends in server-sent events, and sends it what a person does.

const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const number = new Intl.NumberFormat("en");

function element(tag, properties, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
}

const milliseconds = (micros) =>
  micros < 1_000_000 ? `${(micros / 1000).toFixed(1)} ms` : `${(micros / 1_000_000).toFixed(1)} s`;

// read reads JSON for people: a character that is invisible, or that moves its neighbours,
// becomes its code. An event's ID stays as it is, because the page sends it back.
const read = (json) => JSON.parse(json, (name, value) =>
  typeof value === "string" && name !== "eventId" ? value.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} \n]/gu, code) : value);
const code = (c) => Array.from({ length: c.length }, (_, i) => "\\u" + c.charCodeAt(i).toString(16).padStart(4, "0")).join("");

// --- what is known

let orders = new Map(); // by event ID, the latest last
let points = [];
let totals = {};
const listed = 30; // orders

function take(news) {
  if (news.all) {
    orders = new Map();
    points = [];
    $("log").replaceChildren();
    dots.clear();
  }
  totals = news.totals;
  for (const o of news.orders ?? []) {
    if (!orders.has(o.eventId) && orders.size >= 5 * listed) orders.delete(orders.keys().next().value);
    orders.set(o.eventId, o);
    if (!news.all || waits(o)) dots.move(o, news.all);
  }
  points = points.concat(news.points ?? []).slice(-121);
  if (news.parts) showParts(news.parts);
  if (news.items) showItems(news.items);
  news.notes?.forEach(showNote);
  if (news.orders || news.all) showOrders();
  showTotals();
  if (news.points || news.all) showChart();
  dots.settle();
}

const waits = (o) => o.stage === "published" || o.stage === "retried";

// --- the way, and the dots on it

const station = (name) => document.querySelector(`[data-station="${name}"]`);

const dots = {
  shown: new Map(), // by event ID
  most: 150,

  clear() {
    this.shown.forEach((dot) => dot.element.remove());
    this.shown.clear();
  },

  // at returns a place in a station, a little apart from the other dots.
  at(name, spread) {
    const way = $("dots").getBoundingClientRect();
    const box = station(name).getBoundingClientRect();
    const narrow = matchMedia("(max-width: 45rem)").matches;
    const [x, y] = narrow ? [box.right - 55, box.top + box.height / 2] : [box.left + box.width / 2, box.bottom - 28];
    return [x - way.left + (spread[0] - 0.5) * (narrow ? 80 : box.width * 0.75), y - way.top + (spread[1] - 0.5) * 28];
  },

  // move shows an order where it is now; at once, without going there, if so asked.
  move(o, atOnce) {
    let dot = this.shown.get(o.eventId);
    if (!dot) {
      if (this.shown.size >= this.most || document.hidden) return;
      dot = { element: element("i"), spread: [Math.random(), Math.random()], stations: atOnce ? [] : ["order-sidecar", "broker"], busy: false };
      dot.element.title = `${o.orderId}: ${o.quantity} of ${o.itemId}`;
      dot.element.addEventListener("click", () => showDetail(o.eventId));
      this.shown.set(o.eventId, dot);
      $("dots").append(dot.element);
      this.put(dot, atOnce ? "broker" : "order");
    }
    dot.stage = o.stage;
    if (waits(o)) dot.element.className = o.stage;
    else if (!dot.ending) {
      dot.ending = true;
      const second = o.by.includes("second") && !station("second").hidden;
      dot.stations.push(...(second ? ["second"] : ["inventory-sidecar", "inventory"]));
      if (o.stage === "applied") dot.stations.push("store");
    }
    if (!dot.busy) this.go(o.eventId, dot);
  },

  put(dot, name) {
    const [x, y] = this.at(name, dot.spread);
    dot.at = name;
    dot.element.style.transform = `translate(${x}px, ${y}px)`;
  },

  async go(id, dot) {
    dot.busy = true;
    while (dot.stations.length) {
      const next = dot.stations.shift();
      const from = dot.element.style.transform;
      this.put(dot, next);
      if (still.matches) await pause(250);
      else await dot.element.animate([{ transform: from }, { transform: dot.element.style.transform }],
        { duration: 380, easing: "ease-in-out" }).finished.catch(() => {});
    }
    dot.busy = false;
    if (!dot.ending) return;
    dot.element.className = dot.stage;
    await pause(700);
    dot.element.remove();
    if (this.shown.get(id) === dot) this.shown.delete(id);
  },

  // settle puts each dot that rests where its station is now.
  settle() {
    const waiting = totals.waiting || 0;
    $("waiting").hidden = waiting === 0;
    $("waiting").textContent = `${number.format(waiting)} on ${waiting === 1 ? "its" : "their"} way`;
    for (const dot of this.shown.values()) if (!dot.busy) this.put(dot, dot.at);
  },
};

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
addEventListener("resize", () => dots.settle());

// --- what can be broken

const actionNames = { kill: "Kill -9", freeze: "Freeze", restart: "Restart", thaw: "Go on", start: "Start" };

function showParts(parts) {
  for (const part of parts) {
    let row = document.querySelector(`#parts [data-part="${part.id}"]`);
    if (!row) {
      row = element("li", {}, element("b", {}, part.name, element("small")));
      row.dataset.part = part.id;
      for (const [action, name] of Object.entries(actionNames)) {
        const button = element("button", { type: "button", textContent: name });
        button.dataset.action = action;
        button.setAttribute("aria-label", `${name}: ${part.name}`);
        button.addEventListener("click", () => act(part, action));
        row.append(button);
      }
      $("parts").append(row);
    }
    const broken = part.status !== "running" && part.status !== "not there";
    row.classList.toggle("broken", broken);
    row.querySelector("small").textContent = part.status;
    for (const button of row.querySelectorAll("button")) button.hidden = !part.actions.includes(button.dataset.action);
    keepFocus(row);

    const places = part.id === "redis" ? ["broker", "store"] : [part.id];
    for (const place of places) {
      station(place).classList.toggle("broken", broken);
      station(place).querySelector("em").textContent = broken ? part.status : "";
      if (place === "second") station(place).hidden = part.status === "not there";
    }
  }
}

// The focus goes from a button that was pressed to the button that undoes it, once that is shown.
const undo = { kill: "start", start: "kill", freeze: "thaw", thaw: "freeze", restart: "restart" };

let pressed = null; // the button

function keepFocus(row) {
  if (!pressed || !row.contains(pressed)) return;
  if (document.activeElement !== pressed && document.activeElement !== document.body) pressed = null;
  else if (pressed.hidden) {
    const next = row.querySelector(`[data-action=${undo[pressed.dataset.action]}]`);
    if (next.hidden) return;
    next.focus();
    pressed = null;
  }
}

async function act(part, action) {
  pressed = document.activeElement;
  noteRefusal(await send(`parts/${part.id}/${action}`));
}

// --- what happened

function showNote({ at, text }) {
  const time = new Date(at);
  const log = $("log");
  log.prepend(element("li", {}, element("time", { dateTime: time.toISOString(), textContent: time.toLocaleTimeString("en-GB") }), text));
  while (log.children.length > 100) log.lastChild.remove();
}

async function noteRefusal(answer) {
  if (!answer.ok) showNote({ at: Date.now(), text: read(await answer.text()).error });
}

let spokenAt = 0;
let spokenSoon;

// speak tells a screen reader what the dots show, no more often than every four seconds.
function speak() {
  clearTimeout(spokenSoon);
  spokenSoon = setTimeout(() => {
    spokenAt = Date.now();
    $("spoken").textContent = `${totals.accepted} orders accepted, ${totals.applied} applied, ${totals.waiting} on their way, ` +
      `${totals.lost} lost, ${totals.doubled} doubled.`;
  }, Math.max(0, spokenAt + 4000 - Date.now()));
}

function showTotals() {
  let changed = false;
  for (const cell of document.querySelectorAll("[data-total]")) {
    const value = number.format(totals[cell.dataset.total]);
    if (cell.textContent === value) continue;
    cell.textContent = value;
    changed = true;
    cell.parentElement.classList.toggle("bad", cell.dataset.total !== "accepted" && value !== "0");
  }
  if (changed) speak();
}

const endings = { published: "on its way", retried: "on its way, over the retry topic", applied: "applied", dead: "dead letter" };
const ending = (o) => endings[o.stage] + (o.tookMicros && o.stage === "applied" ? ` after ${milliseconds(o.tookMicros)}` : "");

function showOrders() {
  const list = $("orders");
  const latest = [...orders.values()].slice(-listed).reverse();
  const rows = new Map([...list.children].map((row) => [row.dataset.event, row]));
  latest.forEach((o, i) => {
    let row = rows.get(o.eventId);
    rows.delete(o.eventId);
    if (!row) {
      const button = element("button", { type: "button" }, element("span"), element("span"));
      button.addEventListener("click", () => showDetail(o.eventId));
      row = element("li", {}, button);
      row.dataset.event = o.eventId;
    }
    const [what, how] = row.querySelectorAll("span");
    what.textContent = `${o.orderId}: ${number.format(o.quantity)} of ${o.itemId}`;
    how.textContent = ending(o);
    if (list.children[i] !== row) list.insertBefore(row, list.children[i] ?? null);
  });
  rows.forEach((row) => row.contains(document.activeElement) || row.remove());
}

function showItems(items) {
  $("items").replaceChildren(...items.map((i) => {
    let sum = "";
    if (i.set !== null) {
      const due = i.set - i.ordered;
      sum = `${number.format(i.set)} − ${number.format(i.ordered)} = ${number.format(due)}`;
      if (i.waiting) sum += `, when ${number.format(i.waiting)} on their way are applied`;
      else if (i.fresh) sum += i.stock === due ? " ✓" : " ✗ it is not what it should be";
    }
    return element("tr", {}, element("td", { textContent: i.itemId }),
      element("td", { textContent: i.stock === null ? "…" : number.format(i.stock) }), element("td", { textContent: sum }));
  }));
}

// --- the chart

const svg = (tag, attributes) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
};

function showChart() {
  if (points.length < 2) return;
  const [first, last] = [points[0], points.at(-1)];
  const span = Math.max(last.at - first.at, 15_000);
  const floor = Math.min(first.accepted, first.applied);
  const top = Math.max(10, last.accepted - floor);
  const place = (p, value) => `${(600 - ((last.at - p.at) / span) * 600).toFixed(1)},${(197 - ((value - floor) / top) * 192).toFixed(1)}`;
  const accepted = points.map((p) => place(p, p.accepted));
  const applied = points.map((p) => place(p, p.applied));
  $("chart").replaceChildren(
    svg("polygon", { points: [...accepted, ...applied.toReversed()].join(" ") }),
    svg("polyline", { class: "applied", points: applied.join(" ") }),
    svg("polyline", { class: "accepted", points: accepted.join(" ") }),
  );
  $("chart-from").textContent = `${Math.round(span / 1000)} s ago`;
  $("chart-top").textContent = `from bottom to top: ${number.format(top)} orders`;
  $("chart").setAttribute("aria-label", `In the last ${Math.round(span / 1000)} seconds ${last.accepted - first.accepted} orders were accepted, ` +
    `and ${last.applied - first.applied} applied; ${last.accepted - last.applied} are on their way.`);
}

// --- one order

async function showDetail(eventId) {
  const answer = await fetch(`orders/${encodeURIComponent(eventId)}`);
  if (!answer.ok) return noteRefusal(answer);
  const d = read(await answer.text());
  $("detail-title").textContent = `${d.orderId}: ${number.format(d.quantity)} of ${d.itemId}`;
  $("detail-stage").textContent = `It is ${ending(d)}.` + (d.repeated ? ` It was delivered again ${d.repeated} times, and recognised.` : "");
  $("detail-happened").replaceChildren(...d.happened.map((h) => element("tr", {},
    element("td", { textContent: milliseconds(h.atMicros - d.happened[0].atMicros) }), element("td", { textContent: h.tookMicros ? milliseconds(h.tookMicros) : "" }),
    element("td", { textContent: h.who }), element("td", { textContent: h.what }))));
  $("detail-command").textContent = d.command;
  $("detail-event").textContent = d.event;
  $("detail-look").textContent = d.look;
  $("detail-record").textContent = d.record;
  if (!$("detail").open) $("detail").showModal();
}

// --- what a person does

const send = (path, body) => fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });

// typed returns the text of a field as JSON: a number as it is written, other text as a string.
const typed = (text) => (/^-?\d[\d.eE+-]*$/.test(text.trim()) ? text.trim() : JSON.stringify(text));

async function show(request) {
  $("tried-status").textContent = "It is not answered yet";
  $("tried-answer").textContent = "";
  const answer = await request;
  const t = read(await answer.text());
  $("tried").hidden = false;
  $("tried-command").textContent = t.command ?? "";
  $("tried-status").textContent = t.status ? `It is answered ${t.status}` : "It is not answered";
  $("tried-answer").textContent = t.answer ?? t.error;
}

$("order-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const { orderId, itemId, quantity } = e.target.elements;
  const body = `{"orderId": ${JSON.stringify(orderId.value)}, "itemId": ${JSON.stringify(itemId.value)}, "quantity": ${typed(quantity.value)}}`;
  const used = orderId.value;
  await show(send("orders", body));
  if (orderId.value === used) orderId.value = used.replace(/\d+$/, (digits) => String(Number(digits) + 1));
});

$("stock-form").addEventListener("submit", (e) => {
  e.preventDefault();
  const { itemId, quantity } = e.target.elements;
  show(send(`stocks/${encodeURIComponent(itemId.value)}`, `{"quantity": ${typed(quantity.value)}}`));
});

$("load").addEventListener("click", async () => {
  noteRefusal(await send("load", JSON.stringify({ itemId: $("order-form").elements.itemId.value })));
});

// --- from the launcher

const source = new EventSource("news");
source.addEventListener("message", (e) => {
  $("connection").textContent = "";
  take(read(e.data));
});
source.addEventListener("error", () => {
  $("connection").textContent = "The launcher does not answer: is `make run` still there? What you see is what was last known.";
});
