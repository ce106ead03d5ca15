// Wire the controls to the state and the state to the drawings.

function option(score) {
  return el("option", { value: score.name }, capital(score.label));
}

function fillAxis(select) {
  const known = scores.filter((score) => score.objective || trials.some((trial) => isNumber(valueOf(trial, score))));
  const group = (label, list) => (list.length > 0 ? [el("optgroup", { label }, list.map(option))] : []);
  select.replaceChildren(...group("Objectives", known.filter((s) => s.objective)), ...group("Other scores", known.filter((s) => !s.objective)));
}

function defaults() {
  const saving = objectives.find((score) => score.sign < 0);
  const quality = objectives.find((score) => score.sign > 0);
  const x = saving ?? objectives[0];
  const y = quality && quality !== x ? quality : objectives.find((score) => score !== x) ?? scores.find((score) => score !== x) ?? x;
  const knee = trials.find((trial) => trial.knee);
  const best = data.best.map((label) => trialByLabel.get(label)).find(Boolean);
  const pick = knee ?? best ?? front[0] ?? reference ?? completed[0] ?? trials[0] ?? null;
  const first = quality ?? objectives[0];
  return { trial: pick === null ? null : pick.label, x: x.name, y: y.name, sort: first.name, down: first.sign > 0 };
}

// A newly chosen axis gets the scale that suits it, unless the address asked for one.
function withScales(changes) {
  const full = { ...changes };
  for (const axis of ["x", "y"]) {
    const log = `log${axis}`;
    if (axis in full && !(log in full)) full[log] = wantsLog(scoreByName.get(full[axis]));
    if (full[log] && !allowsLog(scoreByName.get(full[axis] ?? state[axis]))) full[log] = false;
  }
  return full;
}

// The legend's entries of what may be hidden are the switches themselves.
const HIDEABLE = ["dominated", "gated", "stopped"];
for (const kind of HIDEABLE) byId(kind).parentElement.append(legendEntry(kind, mark(kind, 10, 9)));
byId("stopped").parentElement.hidden = !trials.some((trial) => trial.state === "stopped"); // most studies stop none

function syncControls() {
  for (const axis of ["x", "y"]) {
    byId(axis).value = state[axis];
    const log = byId(`log${axis}`);
    log.checked = state[`log${axis}`];
    log.disabled = !allowsLog(scoreByName.get(state[axis]));
  }
  for (const key of [...HIDEABLE, "near"]) byId(key).checked = state[key];
  for (const key of Object.keys(CHOICES)) byId(key).value = state[key];
}

function listenToControls() {
  for (const axis of ["x", "y"]) byId(axis).addEventListener("change", (event) => update(withScales({ [axis]: event.target.value })));
  for (const key of ["logx", "logy", ...HIDEABLE, "near"]) byId(key).addEventListener("change", (event) => update({ [key]: event.target.checked }));
  for (const key of Object.keys(CHOICES)) byId(key).addEventListener("change", (event) => update({ [key]: event.target.value }));
  byId("swap").addEventListener("click", () => update({ x: state.y, y: state.x, logx: state.logy, logy: state.logx }));
  window.addEventListener("hashchange", () => update(withScales(readAddress())));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
}

fillAxis(byId("x"));
fillAxis(byId("y"));
const asked = readAddress();
Object.assign(state, withScales({ ...defaults(), ...asked }));
syncControls();
listenToControls();

const again = {
  scatter: drawInto(byId("scatter"), drawScatter),
  parallel: drawInto(byId("parallel"), drawParallel),
  history: drawInto(byId("history"), drawHistory),
};
drawCard();
drawFront();
pickRow();
drawEnergy();
drawOutcomes();

onChange(["x", "y", "logx", "logy", ...HIDEABLE, "near", "step", "by", "bars"], syncControls);
onChange(["x", "y", "logx", "logy", ...HIDEABLE, "near"], () => { scatter.cursor = null; hideTip(); again.scatter(); });
onChange(["trial"], () => { pickInScatter(again.scatter); drawCard(); drawLines(null); pickRow(); });
onChange(["sort", "down"], drawFront);
onChange(["trial", "step", "by", "bars"], drawEnergy);
root.dataset.ready = "1";
