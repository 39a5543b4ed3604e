"use strict";
// Sorts tables, filters the columns, and marks the present section.
(() => {
  const value = (row, at, kind) => {
    const cell = row.cells[at].cloneNode(true);
    cell.querySelectorAll(".between").forEach((small) => small.remove());
    const text = cell.textContent.trim().replace("\u2212", "-");
    return kind === "number" ? Number.parseFloat(text) : text.toLowerCase();
  };
  const sort = (table, rows, head, at, kind) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const empty = (v) => kind === "number" && Number.isNaN(v);
    const keyed = rows.map((row) => [value(row, at, kind), row]);
    keyed.sort(([x, a], [y, b]) => {
      if (empty(x) || empty(y)) return empty(x) - empty(y);
      return (x < y ? -1 : x > y ? 1 : a.dataset.at - b.dataset.at) * (up ? 1 : -1);
    });
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 2) return;
    table.querySelectorAll("[data-sort]").forEach((head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      const at = head.dataset.column ? Number(head.dataset.column) : head.cellIndex;
      button.addEventListener("click", () => sort(table, rows, head, at, head.dataset.sort));
      head.replaceChildren(button);
    });
  });
  const filter = document.querySelector(".filter");
  if (filter) {
    const rows = [...document.getElementById("column-table").tBodies[0].rows];
    const input = filter.querySelector("input"), found = filter.querySelector(".found");
    const cards = [...document.querySelectorAll(".card")];
    filter.hidden = rows.length < 8;
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      for (const item of [...rows, ...cards]) item.hidden = !item.dataset.name.includes(wanted);
      found.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
  }
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  links.forEach((_, id) => seen.observe(document.getElementById(id)));
})();
