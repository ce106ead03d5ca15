// One floating box that says what the pointer is on, and the marks' shapes.

const tip = byId("tip");

function showTip(title, groups, clientX, clientY) {
  const lists = groups.filter((pairs) => pairs.length > 0).map((pairs) =>
    el("dl", {}, pairs.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])));
  tip.replaceChildren(el("b", {}, title), ...lists);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const room = root.clientWidth;
  const left = clientX + 16 + width > room ? Math.max(6, clientX - 16 - width) : clientX + 16;
  const top = clientY + 14 + height > window.innerHeight ? Math.max(6, clientY - 14 - height) : clientY + 14;
  tip.style.transform = `translate(${Math.round(left + window.scrollX)}px, ${Math.round(top + window.scrollY)}px)`;
}

const hideTip = () => { tip.hidden = true; };

const KNOBS_IN_TIP = 8;

// A completed design that breaks a constraint may beat the front and still not stand on it.
function placeOf(trial) {
  if (trial.front) return "on the front";
  if (trial.reached !== null) return `stopped after ${trial.reached}`;
  if (trial.state !== "completed") return trial.state;
  return trial.violations.length > 0 ? "infeasible" : "dominated";
}

const standing = (trial) => [trial.reference ? "reference" : null, trial.knee ? "knee" : null, placeOf(trial)].filter(Boolean).join(", ");

const headOf = (trial) => `Trial ${trial.label} – ${standing(trial)}`;
// Objectives, each followed by the score that reports it, then the scores asked for.
const reported = objectives.flatMap((score) => [score, ...scores.filter((other) => other.reports === score.name)]);
const shownScores = (extra) => [...new Set([...reported, ...extra])];

function showTrial(trial, extra, clientX, clientY) {
  const known = shownScores(extra).filter((score) => isNumber(valueOf(trial, score)));
  const knobs = trial.design.slice(0, KNOBS_IN_TIP);
  if (trial.design.length > KNOBS_IN_TIP) knobs.push(["…", `${trial.design.length - KNOBS_IN_TIP} more`]);
  showTip(headOf(trial), [known.map((score) => [score.label, format(score, valueOf(trial, score))]), knobs,
    trial.violations.map((violation) => ["broken", violation])], clientX, clientY);
}

function mark(kind, x, y) {
  if (kind === "gated") {
    const d = `M${x - 3} ${y - 3}l6 6m0 -6l-6 6`;
    return svg("path", { class: "pt pt-gated", d });
  }
  if (kind === "stopped") return svg("circle", { class: "pt pt-stopped", cx: x, cy: y, r: 3.4 });
  if (kind === "reference") {
    return svg("path", { class: "pt pt-reference", d: `M${x} ${y - 8}l8 8l-8 8l-8 -8z` });
  }
  return svg("circle", { class: `pt pt-${kind}`, cx: x, cy: y, r: kind === "front" ? 5.5 : 3.2 });
}

function legendEntry(words, ...shapes) {
  const glyph = svg("svg", { width: 20, height: 18, viewBox: "0 0 20 18", "aria-hidden": "true" }, ...shapes);
  return el("span", {}, glyph, words);
}
