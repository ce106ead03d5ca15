// The selected design: its scores and its knobs, each beside the reference's.

function drawCard() {
  const trial = trialByLabel.get(state.trial) ?? null;
  const card = byId("card");
  if (trial === null) {
    card.replaceChildren(el("h3", {}, "No design selected"), el("p", { class: "note" }, trials.length === 0 ? "The study holds no trial yet." : "Select one in the chart or in the table."));
    delete root.dataset.trial;
    return;
  }
  root.dataset.trial = trial.label;
  card.replaceChildren(cardTop(trial), ...troubleOf(trial), ...sweepOf(trial), scoreTable(trial), ...knobTable(trial));
}

function cardTop(trial) {
  const at = front.indexOf(trial);
  const go = (label, arrow, to) => {
    const button = el("button", { type: "button", "aria-label": label, title: label, disabled: front.length === 0 || (front.length === 1 && at === 0) }, arrow);
    button.addEventListener("click", () => update({ trial: front[(to + front.length) % front.length].label }));
    return button;
  };
  return el("div", { class: "top" }, el("h3", {}, `Trial ${trial.label}`),
    el("span", { class: trial.front ? "tag" : "tag plain" }, trial.reached === null ? placeOf(trial) : trial.state), ...tagsOf(trial),
    el("span", { class: "steps" }, go("Previous design on the front", "‹", at < 0 ? front.length - 1 : at - 1), go("Next design on the front", "›", at + 1)));
}

const reachedOf = (trial) => (trial.reached === null ? [] : [`Stopped after ${trial.reached}, among the worse there; its scores are those of that stage.`]);
const troubleOf = (trial) => [...reachedOf(trial), ...trial.violations, ...(trial.reason ? [trial.reason] : [])].map((words) => el("p", { class: "why" }, words));

// A button in running text that selects a trial.
function linkTo(trial) {
  const link = el("button", { type: "button", class: "link", "aria-label": `Select trial ${trial.label}` }, trial.label);
  link.addEventListener("click", () => update({ trial: trial.label }));
  return link;
}

// The other chips of the trial's hardware sweep: how many were kept, and which of them are on the front.
function sweepOf(trial) {
  const own = trials.find((other) => other.number === trial.number && !other.variant);
  if (own === undefined || (own.chips === 0 && !trial.variant)) return [];
  const others = trials.filter((other) => other.number === trial.number && other.variant && other !== trial);
  const links = others.flatMap((other, i) => [i > 0 ? ", " : " ", linkTo(other)]);
  const list = others.length > 0 ? [trial.variant ? " Others on the front:" : " On the front:", links, "."] : [];
  if (trial.variant) return [el("p", { class: "note sweep" }, "The network of trial ", linkTo(own), " on another chip, found by its hardware sweep.", list)];
  return [el("p", { class: "note sweep" }, `Its hardware sweep kept ${own.chips} other ${own.chips === 1 ? "chip" : "chips"}.`, list)];
}

function scoreTable(trial) {
  const other = reference !== null && trial !== reference ? reference : null;
  const rows = shownScores(scores).filter((score) => isNumber(valueOf(trial, score)) || (other && isNumber(valueOf(other, score))));
  if (rows.length === 0) return el("p", { class: "note" }, "This trial has no scores.");
  const head = ["Score", "this design", ...(other ? ["reference", "change"] : [])];
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((words) => el("th", { scope: "col" }, words)))),
    el("tbody", {}, rows.map((score) => {
      const { text: words, tone } = change(score, valueOf(trial, score), valueOf(other, score));
      return el("tr", {}, el("th", { scope: "row" }, capital(score.label)), el("td", { class: "num" }, format(score, valueOf(trial, score))),
        ...(other ? [el("td", { class: "num was" }, format(score, valueOf(other, score))), el("td", { class: `num ${tone}` }, words)] : []));
    })));
}

function knobTable(trial) {
  const other = reference !== null && trial !== reference ? new Map(reference.design) : null;
  const mine = new Map(trial.design);
  const labels = [...new Set([...mine.keys(), ...(other ? other.keys() : [])])];
  if (labels.length === 0) return [];
  const head = ["Knob", "this design", ...(other ? ["reference"] : [])];
  return [el("h4", {}, "Design"),
    el("table", { class: "knobs" }, el("thead", {}, el("tr", {}, head.map((words) => el("th", { scope: "col", class: "text" }, words)))),
      el("tbody", {}, labels.map((label) => el("tr", { class: other && mine.get(label) !== other.get(label) ? "differs" : null },
        el("th", { scope: "row" }, breakable(label)), el("td", {}, breakable(mine.get(label) ?? data.missing)),
        ...(other ? [el("td", {}, breakable(other.get(label) ?? data.missing))] : [])))))];
}
