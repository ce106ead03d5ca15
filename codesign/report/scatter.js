// Any two scores against each other: the front, the reference, the knee, and a click to select.

const scatter = { points: [], overlay: null, plot: null, cursor: null };
const GUTTER = 26;
const UNTRAINED = ["gated", "stopped"]; // states that may leave a trial without the scores of training

function scatterTrials(x, y) {
  const shown = trials.filter((trial) => {
    const kind = kindOf(trial);
    if (trial.label === state.trial && kind !== "failed") return true;
    return kind === "reference" || kind === "front" || (kind in state && state[kind]);
  });
  const fits = (score, log, trial) => isNumber(valueOf(trial, score)) && (!log || valueOf(trial, score) > 0);
  const across = shown.filter((trial) => fits(x, state.logx, trial));
  return {
    full: across.filter((trial) => fits(y, state.logy, trial)),
    noY: across.filter((trial) => UNTRAINED.includes(trial.state) && !isNumber(valueOf(trial, y))),
    asked: shown.length,
  };
}

const FENCE = 1.5; // interquartile ranges: Tukey (1977), Exploratory Data Analysis, the fences of a box plot
const WORTHWHILE = 0.6; // a view that saves less than this share of an axis is not worth hiding anything

// The values that an axis must hold. Zoomed in, it holds the front without its outliers, the reference, the
// knee and the selected design; `closer` says whether that is a different view from the whole, hidden trials
// included, so that hiding some does not move the view.
function inView(score, log, shown) {
  const values = shown.map((trial) => valueOf(trial, score));
  const into = log ? Math.log : (value) => value;
  const members = shown.filter((trial) => trial.front).map((trial) => valueOf(trial, score)).sort((a, b) => a - b);
  if (members.length < 4) return { values, closer: false };
  const at = (share) => into(members[Math.round(share * (members.length - 1))]);
  const room = FENCE * (at(0.75) - at(0.25));
  const close = [
    ...members.filter((value) => into(value) >= at(0.25) - room && into(value) <= at(0.75) + room),
    ...shown.filter((trial) => trial.reference || trial.knee || trial.label === state.trial).map((trial) => valueOf(trial, score)),
  ];
  const length = ([low, high]) => into(high) - into(low);
  const whole = trials.map((trial) => valueOf(trial, score)).filter((value) => isNumber(value) && (!log || value > 0));
  const closer = length(spread(close)) < WORTHWHILE * length(spread(whole));
  return { values: closer && state.near ? close : values, closer };
}

function drawScatter(width) {
  const x = scoreByName.get(state.x);
  const y = scoreByName.get(state.y);
  const height = Math.round(Math.min(560, Math.max(330, width * 0.64)));
  const { full, noY, asked } = scatterTrials(x, y);
  const bottom = height - 48;
  const floor = bottom - (noY.length > 0 ? GUTTER : 0);
  const [seenX, seenY] = [inView(x, state.logx, [...full, ...noY]), inView(y, state.logy, full)];
  byId("near-label").hidden = !seenX.closer && !seenY.closer;
  const ys = makeScale({ score: y, values: seenY.values, log: state.logy, from: floor, to: 12, most: Math.floor(height / 60) });
  const left = roomFor(ys) + 22;
  const xs = makeScale({ score: x, values: seenX.values, log: state.logx, from: left, to: width - 14, most: Math.floor(width / 90) });
  scatter.plot = { left, right: width - 14, top: 12, bottom, floor };
  const all = [
    ...noY.map((trial) => ({ trial, kind: trial.state, px: xs.at(valueOf(trial, x)), py: floor + GUTTER / 2 })),
    ...full.map((trial) => ({ trial, kind: kindOf(trial), px: xs.at(valueOf(trial, x)), py: ys.at(valueOf(trial, y)) })),
  ];
  const inside = (p) => p.px >= left - 1 && p.px <= width - 13 && p.py >= 11 && p.py <= (isNumber(valueOf(p.trial, y)) ? floor : bottom) + 1;
  scatter.points = all.filter(inside);
  const order = ["gated", "stopped", "dominated", "front", "reference"];
  const marks = order.flatMap((kind) => scatter.points.filter((p) => p.kind === kind).map((p) => mark(kind, p.px, p.py)));
  scatter.overlay = svg("g", { class: "overlay" });
  const image = picture(width, height, `${capital(y.label)} against ${x.label}, ${scatter.points.length} designs`,
    gridOf(xs, ys), betterCorner(xs, ys, x, y), gutterOf(noY.length), frontStep(x, y), ...marks, scatter.overlay, labelsOf());
  image.setAttribute("tabindex", "0");
  image.setAttribute("role", "application");
  image.setAttribute("aria-describedby", "scatter-help");
  image.dataset.points = String(scatter.points.length);
  listenTo(image);
  const focused = byId("scatter").contains(document.activeElement);
  byId("scatter").replaceChildren(scatter.points.length > 0 ? image : el("p", { class: "note empty" }, "There is nothing to draw for these two scores."));
  if (focused) image.focus({ preventScroll: true });
  scatterWords(asked - all.length, all.length - scatter.points.length, x, y);
  drawPicked();
}

function gridOf(xs, ys) {
  const { left, right, top, bottom, floor } = scatter.plot;
  return svg("g", {},
    xs.ticks.map((tick) => svg("line", { class: "grid", x1: xs.at(tick.value), x2: xs.at(tick.value), y1: top, y2: bottom })),
    ys.ticks.map((tick) => svg("line", { class: "grid", x1: left, x2: right, y1: ys.at(tick.value), y2: ys.at(tick.value) })),
    svg("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}`, fill: "none" }),
    xs.ticks.map((tick) => svg("text", { x: xs.at(tick.value), y: bottom + 17, "text-anchor": "middle" }, tick.label)),
    ys.ticks.map((tick) => svg("text", { x: left - 8, y: ys.at(tick.value) + 4, "text-anchor": "end" }, tick.label)),
    svg("text", { class: "title", x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle" }, xs.title),
    svg("text", { class: "title", x: 0, y: 0, transform: `translate(13 ${(top + floor) / 2}) rotate(-90)`, "text-anchor": "middle" }, ys.title));
}

// The corner that is better than the reference on both axes, where both axes have a direction.
function betterCorner(xs, ys, x, y) {
  const point = scatter.points.find((p) => p.trial.reference);
  if (!point) return null;
  const { left, right, top, floor } = scatter.plot;
  const cross = svg("path", { class: "cross", d: `M${point.px} ${top}V${floor}M${left} ${point.py}H${right}` });
  if (x.sign === 0 || y.sign === 0) return cross;
  const [x0, x1] = x.sign < 0 ? [left, point.px] : [point.px, right];
  const [y0, y1] = y.sign < 0 ? [point.py, floor] : [top, point.py];
  const corner = svg("rect", { class: "better", x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) });
  return svg("g", {}, corner, cross);
}

function gutterOf(count) {
  if (count === 0) return null;
  const { left, right, floor, bottom } = scatter.plot;
  return svg("g", {}, svg("rect", { class: "gutter", x: left, y: floor, width: right - left, height: bottom - floor }));
}

// The steps of the designs that no shown front design beats on these two axes.
function frontStep(x, y) {
  if (x.sign === 0 || y.sign === 0 || x === y) return null;
  const loss = (p, score) => -score.sign * valueOf(p.trial, score);
  const sorted = scatter.points.filter((p) => p.trial.front).sort((a, b) => loss(a, x) - loss(b, x) || loss(a, y) - loss(b, y));
  let best = Infinity;
  const kept = sorted.filter((p) => loss(p, y) < best && ((best = loss(p, y)), true));
  if (kept.length < 2) return null;
  return svg("path", { class: "step", d: kept.map((p, i) => (i === 0 ? `M${p.px} ${p.py}` : `H${p.px}V${p.py}`)).join("") });
}

// Name the reference and the knee where the name hides neither the border nor the other name.
function labelsOf() {
  const { left, right, top, floor } = scatter.plot;
  const boxes = [];
  const named = scatter.points.filter((p) => p.trial.reference || p.trial.knee);
  return svg("g", {}, named.map((p) => {
    const words = [p.trial.reference ? "reference" : null, p.trial.knee ? "knee" : null].filter(Boolean).join(", ");
    const width = words.length * 7;
    const places = [[15, 4, "start"], [-15, 4, "end"], [0, -16, "middle"], [0, 26, "middle"]];
    const boxOf = ([dx, dy, anchor]) => {
      const x0 = p.px + dx - (anchor === "end" ? width : anchor === "middle" ? width / 2 : 0);
      return [x0, p.py + dy - 11, x0 + width, p.py + dy + 3];
    };
    const crowd = ([x0, y0, x1, y1]) => scatter.points.filter((q) => q !== p && !UNTRAINED.includes(q.kind) && q.px > x0 - 4 && q.px < x1 + 4 && q.py > y0 - 4 && q.py < y1 + 4).length;
    const free = ([x0, y0, x1, y1]) => x0 >= left && x1 <= right && y0 >= top - 6 && y1 <= floor + 6
      && !boxes.some((b) => x0 < b[2] && b[0] < x1 && y0 < b[3] && b[1] < y1);
    const open = places.filter((place) => free(boxOf(place)));
    const place = open.sort((a, b) => crowd(boxOf(a)) - crowd(boxOf(b)))[0] ?? places[0];
    boxes.push(boxOf(place));
    const ring = p.trial.knee ? svg("circle", { class: "pt-knee", cx: p.px, cy: p.py, r: 9 }) : null;
    return svg("g", {}, ring, svg("text", { class: "mark", x: p.px + place[0], y: p.py + place[1], "text-anchor": place[2] }, words));
  }));
}

function scatterWords(hidden, outside, x, y) {
  const has = (kind) => scatter.points.some((p) => p.kind === kind);
  byId("scatter-legend").replaceChildren(...[
    has("front") ? legendEntry("on the front", mark("front", 10, 9)) : null,
    scatter.points.some((p) => p.trial.knee) ? legendEntry("knee", mark("front", 10, 9), svg("circle", { class: "pt-knee", cx: 10, cy: 9, r: 8 })) : null,
    has("reference") ? legendEntry("reference", mark("reference", 10, 9)) : null,
    legendEntry("selected", svg("circle", { class: "pt-picked", cx: 10, cy: 9, r: 7 })),
  ].filter(Boolean));
  const notes = [];
  const gutter = (kind) => scatter.points.filter((p) => p.kind === kind && !isNumber(valueOf(p.trial, y))).length;
  const strip = UNTRAINED.map((kind) => [gutter(kind), kind]).filter(([count]) => count > 0);
  if (strip.length > 0) {
    const one = strip.length === 1 && strip[0][0] === 1;
    notes.push(`The strip at the bottom holds ${strip.map(([count, kind]) => `${count} ${kind}`).join(" and ")} ${one ? "trial, which has" : "trials, which have"} no ${y.label}.`);
  }
  if (has("stopped")) notes.push("Stopped trials stand at the scores of the stage that they reached.");
  if (scatter.points.some((p) => p.trial.reference) && x.sign !== 0 && y.sign !== 0) notes.push("Shaded: better than the reference on both axes.");
  if (outside > 0) notes.push(`Zoomed in: ${outside} ${outside === 1 ? "trial lies" : "trials lie"} outside the view.`);
  if (hidden > 0) notes.push(`Not drawn: ${hidden} ${hidden === 1 ? "trial" : "trials"} without a value that these axes can show.`);
  if (data.chips_left_out > 0) notes.push(`Left out of this page: ${data.chips_left_out} more ${data.chips_left_out === 1 ? "chip" : "chips"} of hardware sweeps, not on the front.`);
  byId("scatter-note").textContent = notes.join(" ");
}

function drawPicked() {
  if (!scatter.overlay) return;
  const rings = scatter.points.filter((p) => p.trial.label === state.trial)
    .map((p) => svg("circle", { class: "pt-picked", "data-trial": p.trial.label, cx: p.px, cy: p.py, r: p.trial.reference || p.trial.knee ? 13 : 10 }));
  const cursor = scatter.cursor ? [svg("circle", { class: "pt-hover", cx: scatter.cursor.px, cy: scatter.cursor.py, r: 7.5 })] : [];
  scatter.overlay.replaceChildren(...rings, ...cursor);
}

// Zoomed in or with a kind of trial hidden, the selected one is drawn all the same: another selection is another picture.
function pickInScatter(again) {
  if (state.dominated && state.gated && state.stopped && !state.near) drawPicked();
  else again();
}

function nearest(image, event) {
  const box = image.getBoundingClientRect();
  const scale = image.viewBox.baseVal.width / box.width;
  const [ex, ey] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  const bonus = { front: 4, reference: 4, dominated: 0, stopped: -1, gated: -2 };
  let found = null;
  let least = 26;
  for (const point of scatter.points) {
    const away = Math.hypot(point.px - ex, point.py - ey) - bonus[point.kind];
    if (away < least) [least, found] = [away, point];
  }
  return found;
}

function listenTo(image) {
  const axes = () => [scoreByName.get(state.x), scoreByName.get(state.y)];
  const point = (event) => {
    scatter.cursor = nearest(image, event);
    if (scatter.cursor) showTrial(scatter.cursor.trial, axes(), event.clientX, event.clientY);
    else hideTip();
    image.style.cursor = scatter.cursor ? "pointer" : "default";
    drawPicked();
  };
  const leave = () => { scatter.cursor = null; hideTip(); drawPicked(); };
  image.addEventListener("pointermove", point);
  image.addEventListener("pointerleave", leave);
  image.addEventListener("blur", leave);
  image.addEventListener("click", (event) => {
    const found = nearest(image, event);
    if (found) update({ trial: found.trial.label });
  });
  image.addEventListener("keydown", (event) => walk(image, event, axes()));
}

const STEPS = { ArrowLeft: ["px", -1], ArrowRight: ["px", 1], ArrowUp: ["py", -1], ArrowDown: ["py", 1] };

function walk(image, event, axes) {
  const now = scatter.points.indexOf(scatter.cursor ?? scatter.points.find((p) => p.trial.label === state.trial));
  if ((event.key === "Enter" || event.key === " ") && scatter.cursor) {
    event.preventDefault();
    update({ trial: scatter.cursor.trial.label });
    return;
  }
  if (event.key === "Escape") { scatter.cursor = null; hideTip(); drawPicked(); return; }
  const ends = event.key === "Home" || event.key === "End";
  if ((!ends && !(event.key in STEPS)) || scatter.points.length === 0) return;
  event.preventDefault();
  const [axis, by] = STEPS[event.key] ?? ["px", 1];
  const order = scatter.points.map((_, i) => i).sort((a, b) => scatter.points[a][axis] - scatter.points[b][axis] || a - b);
  const at = ends ? (event.key === "Home" ? 0 : order.length - 1) : Math.min(order.length - 1, Math.max(0, order.indexOf(now) + by));
  scatter.cursor = scatter.points[order[at]];
  drawPicked();
  const box = image.getBoundingClientRect();
  const scale = box.width / image.viewBox.baseVal.width;
  showTrial(scatter.cursor.trial, axes, box.left + scatter.cursor.px * scale, box.top + scatter.cursor.py * scale);
  const said = axes.map((score) => `${score.label} ${format(score, valueOf(scatter.cursor.trial, score))}`);
  byId("announce").textContent = `${headOf(scatter.cursor.trial)}: ${said.join(", ")}`;
}
