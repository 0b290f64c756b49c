// The page of a play table. What comes from outside (instructions, file names, error texts) is set as text only.

const $ = (id) => document.getElementById(id);
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const KEYS = {
  KeyW: ["y", 1], KeyS: ["y", -1], KeyA: ["x", -1], KeyD: ["x", 1], KeyR: ["z", 1], KeyF: ["z", -1],
  KeyQ: ["yaw", 1], KeyE: ["yaw", -1], KeyI: ["pitch", 1], KeyK: ["pitch", -1], KeyJ: ["roll", -1], KeyL: ["roll", 1],
};
const MARKS = { running: "…", done: "✓", "not done": "✕", ended: "–", kept: "+", stopped: "■" };
const SHOWN_ASKED = 50;

let socket = null, hello = null, state = null, closing = "", before = "hand";
const held = new Map(); // key or button -> [axis, amount]
let gripper = "keep", sentIdle = true, padPressed = false, slow = false, frames = [];

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// --- connection ---

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/table`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => typeof event.data === "string" ? hear(JSON.parse(event.data)) : draw(event.data);
  socket.onclose = () => {
    setStatus("lost", "not connected");
    notify(closing || "The connection to the table was lost: reload the page for another table.");
  };
}

function setStatus(kind, text) {
  $("status").className = kind;
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

function notify(text) {
  $("notice-text").textContent = text;
  $("notice").hidden = !text;
}

function hear(message) {
  switch (message.type) {
    case "hello": hello = message; begin(); break;
    case "state": state = message; update(); break;
    case "possible": suggest(message.tasks); break;
    case "asked": showAsked(message); break;
    case "file": showFile(message); break;
    case "problem": notify(message.text); break;
    default: closing ||= message.text; notify(closing); // refused, full, fatal, ended
  }
}

// --- views ---

let newest = 0;
const drawn = {}; // the last turn by canvas: an image may be decoded before that of an earlier turn
async function draw(data) {
  const turn = ++newest;
  const size = new DataView(data).getUint32(1), start = 5;
  const parts = [data.slice(start, start + size), data.slice(start + size)];
  for (const [index, name] of ["static", "gripper"].entries()) {
    if (!parts[index].byteLength) { $(name).closest("figure").hidden = true; continue; }
    const image = await createImageBitmap(new Blob([parts[index]], { type: "image/jpeg" }));
    if (turn < newest - 1 || turn < drawn[name]) { image.close(); return; }
    drawn[name] = turn;
    const canvas = $(name);
    if (canvas.width !== image.width) { canvas.width = image.width; canvas.height = image.height; }
    canvas.getContext("2d").drawImage(image, 0, 0);
    image.close();
  }
  const now = performance.now();
  frames = frames.filter((time) => now - time < 1500);
  frames.push(now);
  document.body.dataset.frames = String(Number(document.body.dataset.frames || 0) + 1);
}

function drawPath(points) {
  const shown = points && $("show-path").checked ? points : [];
  const text = shown.map((point) => point.join(",")).join(" ");
  $("path").setAttribute("points", text);
  $("path-halo").setAttribute("points", text);
  $("path-points").replaceChildren(...shown.map(([x, y], index) => {
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [key, value] of Object.entries({ cx: x, cy: y, r: index ? 0.008 : 0.011 })) circle.setAttribute(key, value);
    return circle;
  }));
}

// --- what there is to choose ---

function begin() {
  $("wordings").replaceChildren(...Object.values(hello.wordings).flat().map((text) => make("option", "", { value: text })));
  choices("actors", "actor", hello.actors.map((actor) => [actor.name, actor.label]), (name) => send({ do: "actor", name }));
  choices("scenes", "scene", hello.scenes.map((name) => [name, name]), (name) => send({ do: "scene", name }));
  $("scene-row").hidden = hello.scenes.length < 2;
  $("chain-form").hidden = !hello.chains;
  $("frame-row").hidden = !hello.view;
  $("path-choice").hidden = !hello.view;
}

function choices(id, name, entries, choose) {
  $(id).replaceChildren(...entries.map(([value, text]) => {
    const box = make("label", text), input = make("input", "", { type: "radio", name, value });
    input.addEventListener("change", () => { choose(value); input.blur(); });
    box.prepend(input);
    return box;
  }));
}

function check(name, value) {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) input.checked = input.value === value;
}

function suggest(tasks) {
  const order = tasks.map((task) => [task, Math.random()]).sort((a, b) => a[1] - b[1]).map(([task]) => task);
  $("suggestions").replaceChildren(...order.slice(0, 6).map((task) => {
    const wording = (hello.wordings[task] || [task])[0], chip = make("button", wording, { type: "button" });
    chip.addEventListener("click", () => ask(wording));
    return chip;
  }));
}

function ask(text) {
  const words = text.trim();
  if (!words) return;
  $("instruction").value = words;
  notify("");
  send({ do: "ask", instruction: words });
}

// --- what is ---

function update() {
  $("facts").textContent = [state.env, hello.renderer && `renderer ${hello.renderer}`].filter(Boolean).join(" · ");
  const asked = state.asked, running = asked !== null && asked.outcome === "running";
  const moving = running && !state.paused && !state.loading;
  setStatus("live", state.loading && state.actor !== "hand" ? "loading the policy …"
    : state.paused ? "paused" : moving && state.actor !== "hand" ? "acting" : state.actor === "hand" ? "in your hand" : "ready");
  check("actor", state.actor);
  check("scene", state.scene);
  const hand = state.actor === "hand";
  $("drive").hidden = !hand;
  $("actor-note").textContent = hand ? "Ask first, then drive: the tick appears when you have done it."
    : state.actor === "expert" ? "The scripted demonstrator sees the simulator's state, not images."
    : state.loading ? "The policy is being loaded; what you ask now begins when it is there." : "";
  $("actor-note").hidden = !$("actor-note").textContent;
  const steps = state.action_steps;
  $("steps-row").hidden = $("steps-note").hidden = !steps || steps[1] < 2;
  if (steps && document.activeElement !== $("action-steps")) {
    $("action-steps").max = steps[1];
    $("action-steps").value = steps[0];
  }
  if (steps) $("action-steps-value").textContent = `${steps[0]} of ${steps[1]}`;
  $("pause").textContent = state.paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", state.paused);
  $("speed-value").textContent = `${state.speed}×`;
  $("stop").disabled = !running;
  if (document.activeElement !== $("seed")) $("seed").value = state.seed;
  $("count").textContent = asked ? asked.steps : "–";
  $("rate").textContent = moving && state.rate ? state.rate.toFixed(0) : "–";
  $("video").setAttribute("aria-pressed", state.video);
  $("video").textContent = state.video ? "● Stop video" : "Video";
  $("record").setAttribute("aria-pressed", state.record);
  $("record").textContent = state.record ? `● Demonstrations (${state.kept})` : "Demonstrations";
  $("keep").hidden = !state.keep;
  $("grip").firstChild.textContent = state.gripper === "open" ? "Close gripper" : "Open gripper";
  drawPath(state.path);
  verdict(asked);
  showChain(state.chain);
  if (asked) mark(asked);
}

function verdict(asked) {
  const shown = asked && { done: ["✓ done", "done"], "not done": ["✕ not done", "failed"] }[asked.outcome];
  $("verdict").hidden = !shown;
  if (shown) { $("verdict").textContent = shown[0]; $("verdict").className = shown[1]; }
}

function describe(asked) {
  const steps = `${asked.steps} steps`;
  const why = asked.not_scored ? `not scored: ${asked.not_scored}` : "";
  const what = { running: asked.steps ? steps : "", done: `done in ${steps}`, "not done": `not done in ${steps}`,
    ended: `ended after ${steps}`, kept: `kept as done after ${steps}`, stopped: `stopped after ${steps}` }[asked.outcome];
  return [what, why].filter(Boolean).join(" · ");
}

function kind(outcome) {
  return outcome === "done" ? "done" : outcome === "not done" ? "failed" : "";
}

function mark(asked) {
  const item = $(`asked-${asked.number}`);
  if (!item) return;
  item.className = kind(asked.outcome);
  item.children[0].textContent = MARKS[asked.outcome];
  item.children[2].textContent = describe(asked);
}

function showAsked(asked) {
  $("nothing").hidden = true;
  if (!$(`asked-${asked.number}`)) {
    const item = make("li", "", { id: `asked-${asked.number}` });
    item.append(make("span", "", { class: "mark" }), make("span", asked.instruction), make("small"));
    $("asked").prepend(item);
    while ($("asked").children.length > SHOWN_ASKED) $("asked").lastChild.remove();
  }
  mark(asked);
}

let chainShown = "";
function showChain(chain) {
  const key = JSON.stringify(chain);
  if (key === chainShown) return;
  chainShown = key;
  $("chain-list").hidden = !chain;
  if (!chain) return;
  $("chain-list").replaceChildren(...chain.tasks.map(([, instruction], index) => {
    const now = index === chain.completed, outcome = index < chain.completed ? "done" : now ? chain.outcome : "";
    const item = make("li", "", { class: `${kind(outcome)} ${now ? "now" : ""}` });
    item.append(make("span", MARKS[outcome] || String(index + 1), { class: "mark" }), make("span", instruction));
    return item;
  }));
}

function showFile(file) {
  const id = `file-${file.name}`;
  const item = $(id) || make("li", "", { id });
  const note = file.kind === "video" ? "video" : `${file.kept} demonstration${file.kept === 1 ? "" : "s"}, the last one of ${file.steps} steps`;
  item.replaceChildren(make("a", file.name, { href: `recordings/${encodeURIComponent(file.name)}`, download: file.name }), make("small", note));
  $("files").prepend(item);
}

// --- driving ---

function axes() {
  const found = {}, factor = Number($("hand-speed").value) * (slow ? 0.5 : 1);
  const add = (axis, amount) => { found[axis] = Math.max(-1, Math.min(1, (found[axis] || 0) + amount * factor)); };
  for (const [axis, amount] of held.values()) add(axis, amount);
  const pads = [...(navigator.getGamepads ? navigator.getGamepads() : [])].filter(Boolean);
  for (const pad of pads) {
    const dead = (value) => Math.abs(value || 0) < 0.15 ? 0 : value;
    for (const [axis, amount] of [["x", dead(pad.axes[0])], ["y", -dead(pad.axes[1])], ["yaw", -dead(pad.axes[2])], ["z", -dead(pad.axes[3])]]) if (amount) add(axis, amount);
  }
  const pressed = pads.some((pad) => pad.buttons[0] && pad.buttons[0].pressed);
  if (pressed && !padPressed) toggleGripper();
  padPressed = pressed;
  for (const axis of Object.keys(found)) if (!found[axis]) delete found[axis];
  return found;
}

function toggleGripper() {
  gripper = state && state.gripper === "open" ? "close" : "open";
}

setInterval(() => { // 15 times a second, while the hand does something
  if (!state || state.actor !== "hand") return;
  const now = axes(), idle = !Object.keys(now).length && gripper === "keep";
  if (idle && sentIdle) return;
  send({ do: "drive", axes: now, gripper, frame: hello.view ? $("frame").value : "table" });
  gripper = "keep";
  sentIdle = idle;
}, 66);

function typing(target) {
  return target.closest("input:not([type=radio]):not([type=checkbox]):not([type=range]), select, textarea") !== null;
}

document.addEventListener("keydown", (event) => {
  slow = event.shiftKey;
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const hand = state && state.actor === "hand", letter = event.key.toLowerCase(); // Caps Lock and Shift make capitals
  if (hand && KEYS[event.code]) {
    held.set(event.code, KEYS[event.code]);
    event.preventDefault();
  } else if (hand && event.code === "Space" && (!event.target.closest("button, summary, a") || event.target.id === "grip")) {
    event.preventDefault();
    if (!event.repeat) toggleGripper();
  } else if (event.repeat) {
    return;
  } else if (event.key === "/") {
    event.preventDefault();
    $("instruction").focus();
  } else if (letter === "p") $("pause").click();
  else if (event.key === ".") $("step").click();
  else if (letter === "h" && state && hello) {
    const other = hello.actors.find((actor) => actor.kind !== "hand").name;
    if (!hand) before = state.actor;
    send({ do: "actor", name: hand ? (before === "hand" ? other : before) : "hand" });
  }
});
document.addEventListener("keyup", (event) => { slow = event.shiftKey; held.delete(event.code); });
window.addEventListener("blur", () => held.clear());
document.addEventListener("visibilitychange", () => held.clear());

for (const button of document.querySelectorAll("[data-axis]")) {
  const release = () => { held.delete(button); button.classList.remove("held"); };
  button.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    button.setPointerCapture(event.pointerId);
    held.set(button, [button.dataset.axis, Number(button.dataset.amount)]);
    button.classList.add("held");
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(name, release);
  button.addEventListener("keydown", (event) => { // Enter or space on a focused button holds it, too
    if (event.key === "Enter" || event.key === " ") held.set(button, [button.dataset.axis, Number(button.dataset.amount)]);
  });
  button.addEventListener("keyup", release);
  button.addEventListener("blur", release);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
}

// --- controls ---

$("ask").addEventListener("submit", (event) => { event.preventDefault(); ask($("instruction").value); if (state && state.actor === "hand") $("instruction").blur(); });
$("instruction").addEventListener("focus", () => $("instruction").select());
$("stop").addEventListener("click", () => send({ do: "stop" }));
$("pause").addEventListener("click", () => send({ do: "pause", on: !(state && state.paused) }));
$("step").addEventListener("click", () => send({ do: "step" }));
$("speed").addEventListener("input", () => send({ do: "speed", factor: SPEEDS[Number($("speed").value) + 2] }));
$("action-steps").addEventListener("change", () => send({ do: "action_steps", count: Number($("action-steps").value) }));
$("reset-form").addEventListener("submit", (event) => { event.preventDefault(); notify(""); send({ do: "reset", seed: Number($("seed").value) }); });
$("shuffle").addEventListener("click", () => { notify(""); send({ do: "reset", seed: Math.floor(Math.random() * 100000) }); });
$("chain-form").addEventListener("submit", (event) => { event.preventDefault(); notify(""); send({ do: "chain", index: Number($("chain").value) }); });
$("video").addEventListener("click", () => send({ do: "video", on: !(state && state.video) }));
$("record").addEventListener("click", () => send({ do: "record", on: !(state && state.record) }));
$("keep").addEventListener("click", () => send({ do: "keep" }));
$("grip").addEventListener("click", toggleGripper);
$("show-path").addEventListener("change", () => drawPath(state && state.path));
$("hand-speed").addEventListener("input", () => { $("hand-speed-value").textContent = `${Math.round(100 * $("hand-speed").value)} %`; });
$("notice-close").addEventListener("click", () => notify(""));
setInterval(() => {
  const now = performance.now(), recent = frames.filter((time) => now - time < 1000);
  $("fps").textContent = recent.length > 1 ? String(recent.length) : "–";
}, 500);

connect();
