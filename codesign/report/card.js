// The selected design: its scores and its knobs, each beside the reference's.

function drawCard() {
  const trial = trialByNumber.get(state.trial) ?? null;
  const card = byId("card");
  if (trial === null) {
    card.replaceChildren(el("h3", {}, "No design selected"), el("p", { class: "note" }, trials.length === 0 ? "The study holds no trial yet." : "Select one in the chart or in the table."));
    delete root.dataset.trial;
    return;
  }
  root.dataset.trial = String(trial.number);
  card.replaceChildren(cardTop(trial), ...troubleOf(trial), scoreTable(trial), ...knobTable(trial));
}

function cardTop(trial) {
  const at = front.indexOf(trial);
  const go = (label, arrow, to) => {
    const button = el("button", { type: "button", "aria-label": label, title: label, disabled: front.length === 0 || (front.length === 1 && at === 0) }, arrow);
    button.addEventListener("click", () => update({ trial: front[(to + front.length) % front.length].number }));
    return button;
  };
  return el("div", { class: "top" }, el("h3", {}, `Trial ${trial.number}`),
    el("span", { class: trial.front ? "tag" : "tag plain" }, placeOf(trial)), ...tagsOf(trial),
    el("span", { class: "steps" }, go("Previous design on the front", "‹", at < 0 ? front.length - 1 : at - 1), go("Next design on the front", "›", at + 1)));
}

const troubleOf = (trial) => [...trial.violations, ...(trial.reason ? [trial.reason] : [])].map((words) => el("p", { class: "why" }, words));

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
