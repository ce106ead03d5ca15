// What every other file uses: trouble made visible, elements built without markup, the data, the state.

const root = document.documentElement;

function trouble(message) {
  root.dataset.error = message;
  const box = document.getElementById("trouble");
  if (box) {
    box.hidden = false;
    box.textContent = `A part of this page failed: ${message}`;
  }
}
window.addEventListener("error", (event) => trouble(event.message));
window.addEventListener("unhandledrejection", (event) => trouble(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => trouble(`blocked ${event.violatedDirective}`));

const byId = (id) => document.getElementById(id);

// Attributes are set, texts become text nodes: nothing that a study is named can turn into markup.
function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
const SVG = "http://www.w3.org/2000/svg";
const svg = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

const data = JSON.parse(byId("data").textContent);
const text = (index) => data.texts[index];

const scores = data.scores.map((score, index) => ({ ...score, index }));
const scoreByName = new Map(scores.map((score) => [score.name, score]));
const objectives = data.objectives.map((name) => scoreByName.get(name));

// A trial's network on another chip of its hardware sweep is a trial of its own, labelled "12.3".
const trials = data.trials.map(([label, state, values, violations, reason, reached, chips, front, knee, reference, [labels, ...places]], order) => ({
  label: String(label),
  order,
  number: parseInt(label, 10),
  variant: String(label).includes("."),
  chips,
  state,
  values,
  design: places.map((place, i) => [data.knobs[labels][i], data.values[place]]),
  violations: violations.map(text),
  reason: reason === null ? null : text(reason),
  reached: reached === null ? null : text(reached),
  front: front === 1,
  knee: knee === 1,
  reference: reference === 1,
}));
const trialByLabel = new Map(trials.map((trial) => [trial.label, trial]));
const completed = trials.filter((trial) => trial.state === "completed");
const front = trials.filter((trial) => trial.front);
const reference = trials.find((trial) => trial.reference) ?? null;
const valueOf = (trial, score) => (trial === null ? null : trial.values[score.index]);
const isNumber = (value) => typeof value === "number";
// Names of layers break after a dot or an underscore, where a reader expects it.
const breakable = (words) => words.split(/(?<=[._])(?=[A-Za-z])/).flatMap((part, i) => (i === 0 ? [part] : [el("wbr"), part]));
const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

function kindOf(trial) {
  if (trial.reference) return "reference";
  if (trial.front) return "front";
  return trial.state === "completed" ? "dominated" : trial.state;
}

function tagsOf(trial) {
  const tags = [];
  if (trial.reference) tags.push(el("span", { class: "tag plain" }, "reference"));
  if (trial.knee) tags.push(el("span", { class: "tag" }, "knee"));
  return tags;
}

// The state is what the address says after "#": a view can be sent to a colleague, and a test can ask for it.
const state = {
  trial: null, x: null, y: null, logx: false, logy: false, dominated: true, gated: true, stopped: true, near: true,
  step: "inference", by: "level", bars: "energy", sort: "trial", down: false,
};
const listeners = [];
const onChange = (keys, listener) => listeners.push([keys, listener]);

function update(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  if (changed.length === 0) return;
  Object.assign(state, changes);
  writeAddress();
  for (const [keys, listener] of listeners) if (keys.some((key) => changed.includes(key))) listener();
}

const CHOICES = { step: ["inference", "training"], by: ["level", "operand", "phase"], bars: ["energy", "share"] };

// Read "trial=12&x=area_mm2&logx=1"; what the page does not know is ignored.
function readAddress() {
  const asked = new URLSearchParams(window.location.hash.slice(1));
  const changes = {};
  for (const [key, value] of asked) {
    if (key === "trial") {
      if (trialByLabel.has(value)) changes.trial = value;
    } else if (key === "x" || key === "y") {
      if (scoreByName.has(value)) changes[key] = value;
    } else if (key === "sort") {
      if (value === "trial" || scoreByName.has(value)) changes[key] = value;
    } else if (key in CHOICES) {
      if (CHOICES[key].includes(value)) changes[key] = value;
    } else if (typeof state[key] === "boolean") {
      changes[key] = value === "1";
    }
  }
  return changes;
}

function writeAddress() {
  const address = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (value !== null) address.set(key, typeof value === "boolean" ? (value ? "1" : "0") : String(value));
  }
  window.history.replaceState(null, "", `#${address}`);
}
