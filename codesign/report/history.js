// Hypervolume after each trial: whether the search was still finding, or had settled.

const PURE = { style: "plain", symbol: "", factor: 1, sign: 1, label: "hypervolume" };

function drawHistory(width) {
  const host = byId("history");
  const points = data.hypervolume.filter((pair) => isNumber(pair[1])).sort((a, b) => a[0] - b[0]);
  if (points.length === 0) {
    host.replaceChildren(el("p", { class: "note empty" }, "No hypervolume was recorded."));
    return;
  }
  const [right, top, bottom] = [width - 14, 12, 246];
  const ys = makeScale({ score: PURE, values: points.map((p) => p[1]), log: false, from: bottom, to: top, most: 5 });
  const left = roomFor(ys);
  const xs = makeScale({ score: { ...COUNT, label: "trial" }, values: points.map((p) => p[0]), log: false, from: left, to: right, most: Math.floor(width / 90), pad: 0 });
  const steps = points.map(([n, v], i) => (i === 0 ? `M${xs.at(n)} ${ys.at(v)}` : `H${xs.at(n)}V${ys.at(v)}`)).join("");
  const whole = (tick) => Number.isInteger(tick.value);
  const image = picture(width, 290, `Hypervolume over ${points.length} trials`,
    ys.ticks.map((tick) => svg("line", { class: "grid", x1: left, x2: right, y1: ys.at(tick.value), y2: ys.at(tick.value) })),
    svg("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}`, fill: "none" }),
    ys.ticks.map((tick) => svg("text", { x: left - 8, y: ys.at(tick.value) + 4, "text-anchor": "end" }, tick.label)),
    xs.ticks.filter(whole).map((tick) => svg("text", { x: xs.at(tick.value), y: bottom + 17, "text-anchor": "middle" }, tick.label)),
    svg("text", { class: "title", x: (left + right) / 2, y: bottom + 39, "text-anchor": "middle" }, "Trial"),
    svg("path", { class: "hv", d: steps }),
    points.length === 1 ? svg("circle", { class: "pt-front", cx: xs.at(points[0][0]), cy: ys.at(points[0][1]), r: 5 }) : null);
  image.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect();
    const x = ((event.clientX - box.left) * width) / box.width;
    const near = points.reduce((best, p) => (Math.abs(xs.at(p[0]) - x) < Math.abs(xs.at(best[0]) - x) ? p : best));
    showTip(`Trial ${near[0]}`, [[["hypervolume", digits(near[1])]]], event.clientX, event.clientY);
  });
  image.addEventListener("pointerleave", hideTip);
  host.replaceChildren(image);
  byId("history-note").textContent = historyWords(points);
}

function historyWords(points) {
  const last = points[points.length - 1];
  const risen = points.filter((p, i) => i > 0 && p[1] > points[i - 1][1]);
  if (risen.length === 0) return `${digits(last[1])} throughout.`;
  return `${digits(last[1])} at the end; it last rose at trial ${risen[risen.length - 1][0]} of ${last[0]}.`;
}
