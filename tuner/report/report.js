(() => {
  "use strict";
  // Figures are stored for a bright screen; these are their colours on a dark one.
  const DARK = {
    "#1c2127": "#e6e9ed", "#8c8c8c": "#87919c", "#e4e7eb": "#2c333b", "#0072b2": "#4aa8e8",
    "#56b4e9": "#a9dcff", "#000000": "#f2f2f2", "#d55e00": "#f08a3c",
  };
  const darkScreen = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const panels = [...document.querySelectorAll("figure.panel")].map((figure) => ({
    plot: figure.querySelector(".plot"),
    text: figure.querySelector("script").textContent,
    drawn: false,
  }));
  const hover = new Map();

  // Figures are drawn again for another theme, and in bright colours for paper.
  function draw(panel, paper = false) {
    const dark = darkScreen.matches && !paper;
    const figure = JSON.parse(panel.text, (_, value) => (dark && DARK[value]) || value);
    const narrow = panel.plot.clientWidth < 480;
    for (const trace of figure.data) {
      if (trace.customdata && trace.hovertext) {
        trace.customdata.forEach((name, i) => hover.has(name) || hover.set(name, trace.hovertext[i]));
      } else if (trace.customdata) {
        trace.hovertext = trace.customdata.map((name) => hover.get(name) || name);
      }
      if (narrow && trace.mode) trace.mode = trace.mode.replace("+text", "");
    }
    const layout = figure.layout;
    layout.hoverlabel.bgcolor = dark ? "#1c2026" : "#ffffff";
    layout.hoverlabel.bordercolor = dark ? "#4a545f" : "#c5ccd3";
    layout.hoverlabel.font.color = layout.font.color;
    layout.autosize = true;
    if (touch) layout.dragmode = false; // a finger scrolls the page
    const config = {
      responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { filename: document.title, scale: 2 },
    };
    Plotly.react(panel.plot, figure.data, layout, config);
    if (!panel.drawn) panel.plot.on("plotly_click", (event) => pick(event.points[0].customdata));
    panel.drawn = true;
  }

  const picked = document.getElementById("picked");
  function pick(name) {
    const row = name && document.getElementById("t-" + name);
    document.querySelectorAll("tr.picked").forEach((other) => other.classList.remove("picked"));
    if (!row) return;
    row.classList.add("picked");
    const link = Object.assign(document.createElement("a"), { href: "#" + row.id, textContent: "its row" });
    const lines = (hover.get(name) || name).replace(/<\/?b>/g, "").split("<br>");
    // The text was escaped for the figure; a text area undoes that without running anything.
    const plain = document.createElement("textarea");
    plain.innerHTML = lines.slice(1).join(" · ");
    const bold = Object.assign(document.createElement("b"), { textContent: name });
    picked.replaceChildren(bold, " " + plain.value + " · ", link);
  }

  // The front is drawn at once; the others when they come near the window, one by one, so that the page responds.
  const waiting = [];
  function drawNext() {
    const panel = waiting.shift();
    if (panel) {
      if (!panel.drawn) draw(panel);
      setTimeout(drawNext, 0);
    } else if (!document.documentElement.dataset.opened) {
      document.documentElement.dataset.opened = "true";
      performance.mark("opened");
    }
  }
  draw(panels[0]);
  performance.mark("front drawn");
  const watcher = new IntersectionObserver((entries) => {
    const near = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    near.forEach((plot) => watcher.unobserve(plot));
    const idle = waiting.length === 0;
    waiting.push(...panels.filter((panel) => near.includes(panel.plot)));
    if (idle) drawNext();
  }, { rootMargin: "500px 0px" });
  panels.forEach((panel) => watcher.observe(panel.plot));
  darkScreen.addEventListener("change", () => panels.filter((p) => p.drawn).forEach((p) => draw(p)));
  addEventListener("beforeprint", () => panels.forEach((panel) => draw(panel, true)));
  addEventListener("afterprint", () => panels.forEach((panel) => draw(panel)));

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [row.cells[column].textContent.trim(), row]);
      const numbers = rows.every(([text]) => text === "" || !Number.isNaN(Number(text)));
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === ""); // rows without a value come last
        const order = numbers ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    }));
  }
})();
