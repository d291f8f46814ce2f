"use strict";
// Niceties only: the page reads the same without this script.
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const show = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const above = y - tip.offsetHeight - 14;
    tip.style.left = Math.max(8, Math.min(x + 14, right)) + scrollX + "px";
    tip.style.top = (above < 4 ? y + 18 : above) + scrollY + "px";
  };
  const hide = () => { tip.hidden = true; };

  const number = (v) => {
    const size = Math.abs(v);
    if (size >= 10000) return Math.round(v).toLocaleString("en");
    if (size > 0 && size < 0.001) return v.toExponential(2).replace(/\.?0+e/, "e");
    return String(Number(v.toPrecision(4)));
  };
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle; else high = middle;
    }
    return high < 0 ? null : Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
  };

  for (const plot of document.querySelectorAll("svg[data-chart]")) {
    const { x: [low, high], series } = JSON.parse(plot.dataset.chart);
    const cursor = plot.querySelector(".cursor");
    plot.querySelectorAll("circle title").forEach((title) => title.remove());
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect(), style = getComputedStyle(plot);
      const left = parseFloat(style.paddingLeft), width = box.width - left - parseFloat(style.paddingRight);
      const at = low + (high - low) * Math.min(1, Math.max(0, (event.clientX - box.left - left) / width));
      const found = series.map((s) => [s.name, nearest(s.points, at)]).filter(([, p]) => p);
      if (!found.length) return;
      const near = found.reduce((a, b) => (Math.abs(b[1][0] - at) < Math.abs(a[1][0] - at) ? b : a))[1][0];
      const lines = found
        .filter(([, p]) => Math.abs(p[0] - near) <= (high - low) * 0.015)
        .map(([name, p]) => name + "  " + number(p[1]) + (p[0] === near ? "" : "  (step " + p[0].toLocaleString("en") + ")"));
      const share = 100 * (near - low) / (high - low) + "%";
      cursor.setAttribute("x1", share);
      cursor.setAttribute("x2", share);
      cursor.setAttribute("visibility", "visible");
      show("step " + near.toLocaleString("en") + "\n" + lines.join("\n"), event.clientX, event.clientY);
    });
    plot.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); hide(); });
  }

  for (const hit of document.querySelectorAll(".hit")) {
    const text = hit.querySelector("title").textContent;
    hit.querySelector("title").remove();
    hit.addEventListener("pointermove", (event) => show(text, event.clientX, event.clientY));
    hit.addEventListener("pointerleave", hide);
  }

  for (const tokens of document.querySelectorAll(".tokens")) {
    tokens.addEventListener("pointerover", (event) => {
      const token = event.target.closest(".text i");
      if (!token) return hide();
      if (token.title) { token.dataset.id = token.title; token.removeAttribute("title"); }
      const run = token.closest(".run"), turn = run.dataset.turn;
      const place = Number(run.dataset.start) + [...token.parentNode.children].indexOf(token);
      const fate = run.classList.contains("on") ? "trained" : "masked";
      const box = token.getBoundingClientRect();
      show("token " + place + ", " + token.dataset.id + "\n" + fate + ": " + run.dataset.reason + (turn ? ", turn " + turn : ""),
        event.clientX || box.left, box.top + 8);
    });
    tokens.addEventListener("pointerleave", hide);
  }

  for (const reason of document.querySelectorAll(".reason")) {
    const runs = [...reason.closest(".row-body").querySelectorAll(".run")]
      .filter((run) => run.dataset.reason === reason.dataset.reason && run.classList.contains("on") === reason.classList.contains("on"));
    const light = (on) => runs.forEach((run) => run.classList.toggle("lit", on));
    reason.addEventListener("pointerenter", () => light(true));
    reason.addEventListener("pointerleave", () => light(false));
  }

  const box = document.querySelector(".rows"), rows = box ? [...box.querySelectorAll(":scope > .row")] : [];
  const press = (button, key) => button.parentNode.querySelectorAll("[data-" + key + "]")
    .forEach((b) => b.setAttribute("aria-pressed", b === button));
  const view = (kind, among) => among.forEach((row) => {
    const tab = row.querySelector(".tab." + kind);
    if (tab) tab.checked = true;
  });
  const bars = [...document.querySelectorAll(".order")];
  let only = "", text = "";
  const filter = () => rows.forEach((row) => {
    const raw = text && (row.querySelector(".pane.raw") || row).textContent.toLowerCase();
    row.hidden = Boolean((only && row.dataset.fate !== only) || (text && !raw.includes(text)));
  });
  for (const bar of bars) {
    bar.hidden = false;
    bar.addEventListener("click", (event) => {
      const { order: key, fold, only: fate, view: kind } = event.target.dataset;
      if (fold !== undefined) rows.forEach((row) => { row.open = fold === "open"; });
      if (fate !== undefined) { only = fate; filter(); press(event.target, "only"); }
      if (kind !== undefined) { view(kind, rows); press(event.target, "view"); }
      if (key === undefined) return;
      const sign = key.startsWith("-") ? 1 : -1, name = key.replace("-", "");
      box.append(...(name ? [...rows].sort((a, b) => sign * (a.dataset[name] - b.dataset[name])) : rows));
      press(event.target, "order");
    });
  }

  const find = document.querySelector(".tools input");
  if (!find) return;
  find.addEventListener("input", () => { text = find.value.trim().toLowerCase(); filter(); });
  let at = -1;
  const go = (step) => {
    const shown = [...box.children].filter((row) => !row.hidden);
    if (!shown.length) return;
    const before = shown.indexOf(document.activeElement.closest ? document.activeElement.closest(".row") : null);
    at = Math.max(0, Math.min(shown.length - 1, (before < 0 ? at : before) + step));
    shown[at].open = true;
    shown[at].querySelector("summary").focus();
    shown[at].scrollIntoView({ block: "start" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === find) { find.value = ""; text = ""; filter(); find.blur(); return; }
    if (event.target === find) return;
    const current = document.activeElement.closest(".row");
    if (event.key === "j" || event.key === "k") go(event.key === "j" ? 1 : -1);
    else if (event.key === "/") find.focus();
    else if (["1", "2", "3"].includes(event.key)) view(["tokens", "turns", "raw"][event.key - 1], current ? [current] : rows);
    else return;
    event.preventDefault();
  });
})();
