// Energy of the selected design by layer, split by memory level, operand or phase, beside the reference's.

const MOST_LAYERS = 24;
const COLOURS = 7; // c0 to c6; plain for the parts that use most, hatched for the next, c7 for the tail
let allLayers = false;

// Rows of a trial: {layer, phase, latency, macs, cells: [[level, operand, pj], ...]}, or null if not embedded.
function rowsOf(trial) {
  const packed = trial === null ? undefined : data.breakdowns[trial.label];
  if (packed === undefined) return null;
  return packed[state.step === "inference" ? 0 : 1].map(([layer, phase, latency, macs, flat]) => ({
    layer: text(layer), phase: text(phase), latency, macs,
    cells: Array.from({ length: flat.length / 3 }, (_, i) => [text(flat[3 * i]), text(flat[3 * i + 1]), flat[3 * i + 2] ?? 0]),
  }));
}

const partOf = (row, [level, operand]) => ({ level, operand, phase: row.phase })[state.by];

// layer -> part -> pJ, in the order of the rows
function table(rows) {
  const layers = new Map();
  for (const row of rows) {
    const parts = layers.get(row.layer) ?? new Map();
    for (const cell of row.cells) parts.set(partOf(row, cell), (parts.get(partOf(row, cell)) ?? 0) + cell[2]);
    layers.set(row.layer, parts);
  }
  return layers;
}

const sumOf = (parts) => (parts ? [...parts.values()].reduce((a, b) => a + b, 0) : 0);

function merged(listOfParts) {
  const whole = new Map();
  for (const parts of listOfParts) for (const [part, pj] of parts) whole.set(part, (whole.get(part) ?? 0) + pj);
  return whole;
}

function drawEnergy() {
  const host = byId("energy");
  const trial = trialByLabel.get(state.trial) ?? null;
  const rows = rowsOf(trial);
  if (rows === null || rows.length === 0) {
    host.replaceChildren(el("p", { class: "note" }, whyNoEnergy(trial, rows)));
    return;
  }
  const other = reference !== null && reference !== trial ? rowsOf(reference) : null;
  const mine = table(rows);
  const theirs = other !== null && other.length > 0 ? table(other) : null;
  const colours = colourOf([mine, theirs ?? new Map()]);
  host.replaceChildren(sums(trial, mine, theirs, colours), partLegend(colours), layerBars(mine, theirs, colours), energyNumbers(trial, rows));
}

function whyNoEnergy(trial, rows) {
  const what = state.step === "inference" ? "an inference" : "a training step";
  if (trial === null) return "Select a design to see where its energy goes.";
  if (rows !== null) return `Trial ${trial.label} has no layer-by-layer energy of ${what}.`;
  if (data.breakdowns_left_out > 0) return `The layer-by-layer energy of trial ${trial.label} is not in this page, which keeps the reference's, the knee's and the front's first and leaves out ${data.breakdowns_left_out} to stay small. The run folder has it.`;
  if (trial.variant) return `The layer-by-layer energy of trial ${trial.label} has not been worked out: \`cosearch report\` does it for the designs on the front.`;
  return `No layer-by-layer energy was recorded for trial ${trial.label}.`;
}

// Every part that any embedded design has, by the energy that all of them spend on it: a part keeps its
// colour from design to design, and the large parts get the plain colours.
function ranking() {
  const totals = merged(Object.keys(data.breakdowns).flatMap((label) => [...table(rowsOf(trialByLabel.get(label))).values()]));
  return [...totals].sort((a, b) => b[1] - a[1]).map(([part]) => part);
}

// The parts of these designs, in order of appearance, each with its colour.
function colourOf(tables) {
  const rank = ranking();
  const parts = [...new Set(tables.flatMap((layers) => [...layers.values()].flatMap((one) => [...one.keys()])))];
  const colour = (place) => (place < COLOURS ? `c${place}` : place < 2 * COLOURS ? `c${place - COLOURS} hatched` : "c7");
  return new Map(parts.map((part) => [part, colour(rank.indexOf(part))]));
}

const spaced = (part) => part.replaceAll("_", " ");

function stack(parts, colours, title, length) {
  const whole = sumOf(parts);
  const bar = el("div", { class: "stack", role: "img", "aria-label": `${title}: ${format(PICOJOULES, whole)}` });
  if (length !== null) bar.style.width = length;
  for (const [part, colour] of colours) {
    const pj = parts.get(part) ?? 0;
    if (!(pj > 0)) continue;
    const piece = el("i", { class: colour });
    piece.style.width = `${(100 * pj) / whole}%`;
    bar.append(piece);
  }
  const rows = [...colours.keys()].filter((part) => parts.has(part)).map((part) => [spaced(part), `${format(PICOJOULES, parts.get(part))} (${whole > 0 ? ((100 * parts.get(part)) / whole).toFixed(1) : "0.0"} %)`]);
  bar.addEventListener("pointermove", (event) => showTip(title, [[["all", format(PICOJOULES, whole)]], rows], event.clientX, event.clientY));
  bar.addEventListener("pointerleave", hideTip);
  return bar;
}

function sums(trial, mine, theirs, colours) {
  const whole = merged([...mine.values()]);
  const was = theirs ? merged([...theirs.values()]) : null;
  const delta = was ? change(PICOJOULES, sumOf(whole), sumOf(was)) : { text: "", tone: "" };
  const one = (words, parts, tail) => el("div", { class: "sum" }, el("div", { class: "head" }, el("span", {}, words, " ", el("b", {}, format(PICOJOULES, sumOf(parts)))), tail), stack(parts, colours, words, null));
  return el("div", { class: "sums" },
    one(`Trial ${trial.label}${trial.reference ? " (reference)" : ""}`, whole, delta.text ? el("span", { class: delta.tone }, delta.text) : null),
    was ? one(`Reference (trial ${reference.label})`, was, null) : null);
}

function partLegend(colours) {
  return el("div", { class: "legend" }, [...colours].map(([part, colour]) => el("span", {}, el("i", { class: `swatch ${colour}` }), spaced(part))));
}

// The layers of both designs in the order of the networks: a layer that only one has stands after the one
// that it follows there.
function layersOf(mine, theirs) {
  const names = [...mine.keys()];
  let before = -1;
  for (const name of theirs ? theirs.keys() : []) {
    if (!mine.has(name)) names.splice(before + 1, 0, name);
    before = names.indexOf(name);
  }
  return names;
}

function layerBars(mine, theirs, colours) {
  const names = layersOf(mine, theirs);
  const size = (name) => Math.max(sumOf(mine.get(name)), sumOf(theirs?.get(name)));
  const kept = new Set(allLayers ? names : [...names].sort((a, b) => size(b) - size(a)).slice(0, MOST_LAYERS));
  const rest = names.filter((name) => !kept.has(name));
  const lines = names.filter((name) => kept.has(name)).map((name) => [name, mine.get(name) ?? null, theirs?.get(name) ?? null]);
  if (rest.length > 0) {
    const gather = (layers) => merged(rest.map((name) => layers.get(name) ?? new Map()));
    lines.push([`${rest.length} smaller layers`, gather(mine), theirs ? gather(theirs) : null]);
  }
  const longest = lines.reduce((most, [, a, b]) => Math.max(most, sumOf(a), sumOf(b)), 0);
  const grid = el("div", { class: "layers" }, lines.map(([name, a, b]) => [el("div", { class: "name", title: name }, name),
    el("div", { class: "pair" }, layerBar(a, colours, `${name}, trial ${state.trial}`, longest, ""), theirs ? layerBar(b, colours, `${name}, reference`, longest, "ref") : null)]));
  const note = theirs ? el("p", { class: "note" }, "Thick bars: the selected design. Thin bars: the reference.") : null;
  return el("div", {}, el("h4", {}, "By layer"), note, grid, rest.length > 0 || allLayers ? moreButton(names.length) : null);
}

function layerBar(parts, colours, title, longest, kind) {
  if (parts === null) return el("div", { class: `bar ${kind}` }, el("span", { class: "value" }, kind === "ref" ? "not in the reference" : "not in this design"));
  const whole = sumOf(parts);
  const share = state.bars === "share" ? (whole > 0 ? 1 : 0) : longest > 0 ? whole / longest : 0;
  const length = `calc((100% - 76px) * ${share.toFixed(5)})`;
  return el("div", { class: `bar ${kind}` }, stack(parts, colours, title, length), el("span", { class: "value" }, format(PICOJOULES, whole)));
}

function moreButton(count) {
  const button = el("button", { type: "button" }, allLayers ? `Show the largest ${MOST_LAYERS}` : `Show all ${count} layers`);
  button.addEventListener("click", () => { allLayers = !allLayers; drawEnergy(); });
  return el("p", {}, button);
}

function energyNumbers(trial, rows) {
  const head = ["Layer", "phase", "energy", "latency", "MACs", "energy per MAC"];
  const body = rows.map((row) => {
    const pj = row.cells.reduce((sum, cell) => sum + cell[2], 0);
    return el("tr", {}, el("th", { scope: "row" }, row.layer), el("td", { class: "text" }, row.phase), el("td", { class: "num" }, format(PICOJOULES, pj)),
      el("td", { class: "num" }, format(SECONDS, row.latency)), el("td", { class: "num" }, format(COUNT, row.macs)), el("td", { class: "num" }, row.macs > 0 ? format(PICOJOULES, pj / row.macs) : data.missing));
  });
  return el("details", {}, el("summary", {}, `Numbers of trial ${trial.label}, layer by layer`),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, head.map((words, i) => el("th", { scope: "col", class: i === 1 ? "text" : null }, words)))), el("tbody", {}, body))));
}
