// Trials that were not trained to the end, and why.

const PRINTED = 40; // as in the print rules of page.css
let outcome = "all";
const unlucky = trials.filter((trial) => trial.state !== "completed");

function drawOutcomes() {
  const host = byId("outcomes");
  if (unlucky.length === 0) {
    byId("outcomes-filter").replaceChildren();
    host.replaceChildren(el("p", { class: "note" }, trials.length === 0 ? "The study holds no trial yet." : "Every trial completed within the constraints."));
    return;
  }
  byId("outcomes-filter").replaceChildren(...["all", "gated", "stopped", "failed"].map(filterButton));
  const shown = unlucky.filter((trial) => outcome === "all" || trial.state === outcome);
  host.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ["Trial", "State", "Why"].map((words) => el("th", { scope: "col", class: "text" }, words)))),
    el("tbody", {}, shown.map(outcomeRow))), ...(shown.length > PRINTED ? [el("p", { class: "note cut" }, `Printed: the first ${PRINTED} of ${shown.length}.`)] : []));
}

function filterButton(kind) {
  const count = kind === "all" ? unlucky.length : unlucky.filter((trial) => trial.state === kind).length;
  const button = el("button", { type: "button", "aria-pressed": String(outcome === kind), disabled: count === 0 }, `${capital(kind)} (${count})`);
  button.addEventListener("click", () => { outcome = kind; drawOutcomes(); });
  return button;
}

function outcomeRow(trial) {
  const pick = el("button", { type: "button", class: "link", "aria-label": `Select trial ${trial.label}` }, trial.label);
  pick.addEventListener("click", () => update({ trial: trial.label }));
  const words = [...reachedOf(trial), ...trial.violations, ...(trial.reason ? [trial.reason] : [])];
  return el("tr", {}, el("td", {}, pick), el("td", {}, trial.state), el("td", {}, (words.length > 0 ? words : ["No reason was recorded."]).map((line) => el("p", {}, line))));
}
