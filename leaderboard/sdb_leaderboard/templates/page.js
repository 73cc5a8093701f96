"use strict";
// The page works without this file: all tables, sentences and the picture are in the HTML.
// It adds the interactive chart, the selectors, the quality floor, sorting and the theme button.
const byId = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const figures = JSON.parse(byId("figures").textContent);
const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isNarrow = matchMedia("(max-width: 760px)");
let chosenTheme = null;

const cssValue = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const panelId = () => byId("group").value;
const floor = () => Number(byId("floor").value) / 100;

function applyTheme() {
  const theme = chosenTheme ?? (prefersDark.matches ? "dark" : "light");
  root.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
}

function listGroups() {
  const options = all("option", byId("group"));
  for (const option of options) option.hidden = option.disabled = option.dataset.view !== byId("view").value;
  byId("group").value = options.find((option) => !option.hidden).value;
}

function showPanel() {
  for (const element of all("[data-panel]")) {
    const isOverview = element.closest("main > section[data-panel]:not(.panel)") !== null;
    const wanted = isOverview ? overviewId() : panelId();
    element.hidden = element.dataset.panel !== wanted;
  }
}

function overviewId() {
  return all("option", byId("group")).find((option) => option.dataset.view === byId("view").value).value;
}

function colourTraces(traces) {
  for (const trace of traces) {
    if (!trace.meta) continue;
    const colour = cssValue(`--${trace.meta.role}`);
    if (trace.line) trace.line.color = colour;
    if (trace.marker) {
      trace.marker.color = colour;
      trace.marker.line.color = colour;
    }
    if (trace.error_y) trace.error_y.color = colour;
  }
  return traces;
}

function drawChart() {
  const { data, layout } = structuredClone(figures[panelId()]);
  const ink = cssValue("--ink");
  const soft = cssValue("--soft");
  layout.font = { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: soft };
  for (const axis of [layout.xaxis, layout.yaxis]) {
    Object.assign(axis, { gridcolor: cssValue("--grid"), linecolor: cssValue("--line"), fixedrange: isNarrow.matches });
    axis.title.font = { size: 12.5, color: soft };
  }
  if (isNarrow.matches) {
    for (const trace of data) if (trace.mode === "markers+text") trace.mode = "markers";
    layout.xaxis.title.text = "tokens/s/user, median (log) →";
    layout.margin = { ...layout.margin, l: 50, r: 8 };
  }
  Object.assign(layout.hoverlabel, { bgcolor: cssValue("--card"), bordercolor: soft, font: { ...layout.font, color: ink } });
  if (floor() > 0) {
    layout.shapes = [{
      type: "rect", xref: "paper", x0: 0, x1: 1, yref: "y", y0: -1, y1: floor(), layer: "above",
      fillcolor: cssValue("--card"), opacity: 0.82, line: { width: 0 },
    }, {
      type: "line", xref: "paper", x0: 0, x1: 1, yref: "y", y0: floor(), y1: floor(), line: { width: 1.5, color: cssValue("--accent") },
    }];
  }
  const config = { displayModeBar: false, responsive: true };
  return Plotly.react("chart", colourTraces(data), layout, config);
}

function applyFloor() {
  byId("floor-text").textContent = `${byId("floor").value} %`;
  const rows = all(`.table-box[data-panel=${panelId()}] tbody tr`);
  for (const row of rows) row.classList.toggle("under", Number(row.dataset.score) < floor());
  const kept = rows.filter((row) => !row.classList.contains("under"));
  const front = kept.filter((row) => row.classList.contains("front"));
  byId("live").textContent = floor() > 0
    ? `${kept.length} of ${rows.length} configurations reach the floor, ${front.length} of them on the observed frontier.`
    : "Sort by any column; scroll sideways for all of them.";
}

function update() {
  showPanel();
  applyFloor();
  return drawChart();
}

function compareCells(a, b) {
  const x = a.dataset.v ?? a.textContent;
  const y = b.dataset.v ?? b.textContent;
  const isEmptyX = x === "nan";
  const isEmptyY = y === "nan";
  if (isEmptyX || isEmptyY) return { order: isEmptyX - isEmptyY, isFixed: true };
  const isNumber = x !== "" && y !== "" && !Number.isNaN(Number(x)) && !Number.isNaN(Number(y));
  return { order: isNumber ? Number(x) - Number(y) : x.localeCompare(y), isFixed: false };
}

function sortBy(head) {
  const index = [...head.parentNode.children].indexOf(head);
  const isDescending = head.ariaSort === "descending" ? false : head.ariaSort === "ascending" || index > 0;
  for (const other of head.parentNode.children) other.ariaSort = "none";
  head.ariaSort = isDescending ? "descending" : "ascending";
  const body = head.closest("table").tBodies[0];
  const rows = [...body.rows].sort((a, b) => {
    const { order, isFixed } = compareCells(a.children[index], b.children[index]);
    return isFixed || !isDescending ? order : -order;
  });
  body.append(...rows);
}

function addSortButtons() {
  for (const head of all("th[aria-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(head));
    head.replaceChildren(button);
  }
}

applyTheme();
addSortButtons();
for (const id of ["controls", "theme", "chart-section"]) byId(id).hidden = false;
listGroups();
byId("view").addEventListener("change", () => { listGroups(); update(); });
byId("group").addEventListener("change", update);
byId("floor").addEventListener("input", () => { applyFloor(); drawChart(); });
byId("theme").addEventListener("click", () => {
  chosenTheme = root.dataset.theme === "dark" ? "light" : "dark";
  applyTheme();
  drawChart();
});
for (const media of [prefersDark, isNarrow]) media.addEventListener("change", () => { applyTheme(); drawChart(); });
update().then(() => { root.dataset.ready = "true"; });
