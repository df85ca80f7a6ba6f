// Tables: a click on a heading sorts.
for (const button of document.querySelectorAll("table.sortable th button")) button.addEventListener("click", () => {
  const th = button.parentElement, row = th.parentElement, body = th.closest("table").tBodies[0];
  const up = th.getAttribute("aria-sort") !== "ascending", column = th.cellIndex;
  for (const other of row.cells) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = tr => tr.cells[column].dataset.value ?? tr.cells[column].textContent;
  const sign = up ? 1 : -1;
  const compare = (a, b) => {
    const x = parseFloat(a), y = parseFloat(b);
    if (isNaN(x) && isNaN(y)) return sign * a.localeCompare(b);
    return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y); // what has no number is last either way
  };
  [...body.rows].sort((a, b) => compare(key(a), key(b))).forEach(tr => body.append(tr));
});

// Figures: the mark nearest to the pointer, the tap or (by arrow keys) the focus says what it is, and its series stands out.
const tip = document.getElementById("tip");
const centre = mark => { const box = mark.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; };

function point(svg, mark, [x, y]) {
  svg.querySelectorAll(".near, .same").forEach(other => other.classList.remove("near", "same"));
  const series = mark?.dataset.series, text = mark?.dataset.tip;
  svg.classList.toggle("lit", Boolean(series));
  if (series) svg.querySelectorAll("[data-series]").forEach(other => other.classList.toggle("same", other.dataset.series === series));
  tip.hidden = !text;
  if (!text) return;
  mark.classList.add("near");
  tip.textContent = text;
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 4)) + "px";
  tip.style.top = (y - tip.offsetHeight - 12 > 4 ? y - tip.offsetHeight - 12 : y + 18) + "px";
}

for (const svg of document.querySelectorAll("figure svg")) {
  const points = [...svg.querySelectorAll(".mark")], marks = [...svg.querySelectorAll("[data-tip]")];
  if (!marks.length && !svg.querySelector("[data-series]")) continue;
  const under = event => {
    let nearest = null, least = event.pointerType === "touch" ? 28 : 14;
    for (const mark of points) {
      const [x, y] = centre(mark), distance = Math.hypot(x - event.clientX, y - event.clientY);
      if (distance < least) [nearest, least] = [mark, distance];
    }
    return nearest ?? event.target.closest("[data-tip], [data-series]");
  };
  for (const kind of ["pointermove", "pointerdown"])
    svg.addEventListener(kind, event => point(svg, under(event), [event.clientX, event.clientY]));
  svg.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") point(svg, null, [0, 0]); });
  svg.addEventListener("blur", () => point(svg, null, [0, 0]));
  if (!marks.length) continue;
  svg.tabIndex = 0;
  let at = -1;
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") point(svg, null, [0, 0]);
    if (!step) return;
    event.preventDefault();
    at = (at + step + (at < 0 && step < 0) + marks.length) % marks.length;
    point(svg, marks[at], centre(marks[at]));
  });
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

// Print: what is folded would be missing on paper, and is unfolded but for whole configurations and licences.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...unfolded, ...document.querySelectorAll("main details:not([open], .screen)")];
  for (const details of unfolded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of unfolded) details.open = false;
  unfolded = [];
});
