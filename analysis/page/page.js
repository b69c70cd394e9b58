// Sorting, filtering, folding, pointing and the colour scheme. Without it everything is still there to read.
"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Colour scheme: the system's until a choice is made; a page from a file may have no storage.
const stored = () => { try { return localStorage.getItem("scan-bench-theme"); } catch { return null; } };
const store = value => { try { localStorage.setItem("scan-bench-theme", value); } catch { /* it lasts as long as the page */ } };
const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
if (["dark", "light"].includes(stored())) document.documentElement.dataset.theme = stored();
const toggle = document.getElementById("theme");
const tell = () => { toggle.textContent = isDark() ? "Light colours" : "Dark colours"; };
toggle.hidden = false;
toggle.onclick = () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  store(document.documentElement.dataset.theme);
  tell();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
tell();

// Sorting: numbers by data-sort, largest first; else by text. Cells without a number go last.
const sortBy = (table, column, isDown) => {
  const head = table.tHead.rows[0].cells;
  [...head].forEach(th => th.removeAttribute("aria-sort"));
  head[column].setAttribute("aria-sort", isDown ? "descending" : "ascending");
  const keys = new Map([...table.tBodies[0].rows].map(row => {
    const cell = row.cells[column];
    return [row, { number: parseFloat(cell.dataset.sort ?? "NaN"), text: cell.textContent.trim() }];
  }));
  const sign = isDown ? -1 : 1;
  const isNumeric = [...keys.values()].some(key => !isNaN(key.number));
  table.tBodies[0].append(...[...keys.keys()].sort((a, b) => {
    const x = keys.get(a), y = keys.get(b);
    if (!isNumeric) return sign * x.text.localeCompare(y.text, undefined, { numeric: true });
    return isNaN(x.number) ? (isNaN(y.number) ? 0 : 1) : isNaN(y.number) ? -1 : sign * (x.number - y.number);
  }));
};
all("table.sortable").forEach(table => {
  const heads = [...table.tHead.rows[0].cells];
  const select = make("select", {}, make("option", { value: "", textContent: "as it stands" }));
  heads.forEach((th, column) => {
    const label = th.querySelector("b");
    const button = make("button", { type: "button", title: "Sort" }, ...label.childNodes);
    label.replaceChildren(button);
    button.onclick = () => {
      const was = th.getAttribute("aria-sort");
      const isNumeric = all("tbody tr", table).some(row => row.cells[column].dataset.sort !== undefined);
      sortBy(table, column, was ? was === "ascending" : isNumeric);
    };
    select.append(make("option", { value: column, textContent: th.innerText.replace(/\s+/g, " ").trim() }));
  });
  select.onchange = () => {
    if (select.value === "") return;
    heads[select.value].removeAttribute("aria-sort");
    heads[select.value].querySelector("button").click();
  };
  table.closest(".scroll").before(make("label", { className: "sortby" }, "Sort by ", select));
});

// Filtering: text in rows; framework, model, pool and method wherever an element names its own.
const bar = document.getElementById("filter");
if (bar) {
  const fields = ["framework", "model", "pool", "method"];
  const text = bar.querySelector("input"), shown = bar.querySelector("output");
  const selects = fields.map(field => bar.querySelector(`select[name=${field}]`));
  const rows = all("table.sortable tbody tr").map(row => [row, row.textContent.toLowerCase()]);
  const tables = document.getElementById("tables");
  const apply = () => {
    if (tables && (text.value || selects.some(select => select.value))) tables.open = true;
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const isOut = element => selects.some((select, i) => select.value && (element.dataset[fields[i]] ?? select.value) !== select.value);
    let count = 0;
    rows.forEach(([row, content]) => {
      const block = row.closest(".block");
      row.hidden = isOut(row) || (block !== null && isOut(block)) || !words.every(word => content.includes(word));
      count += !row.hidden;
    });
    all(".block").forEach(block => {
      const own = all("table.sortable tbody tr", block);
      block.hidden = isOut(block) || (own.length > 0 && own.every(row => row.hidden));
    });
    shown.textContent = count === rows.length ? `${count} rows` : `${count} of ${rows.length} rows`;
  };
  text.oninput = apply;
  selects.forEach(select => { select.onchange = apply; });
  bar.onsubmit = event => event.preventDefault();
  bar.onreset = () => setTimeout(apply);
  bar.hidden = false;
  apply();
}

// Pointing at a method in a figure shows all of it there in its colour.
all(".drawing").forEach(drawing => drawing.addEventListener("pointerover", event => {
  const method = event.target.closest("[data-m]")?.dataset.m;
  all("[data-m]", drawing).forEach(one => one.classList.toggle("on", one.dataset.m === method));
}));

// Folding: all at once; folded on a phone where there are many; a link opens what it leads to.
all("[data-fold]").forEach(button => {
  button.hidden = false;
  button.onclick = () => all("details.block").forEach(one => { one.open = button.dataset.fold === "open"; });
});
if (innerWidth < 640 && all("details.block").length > 8) all("details.block").forEach(one => { one.open = false; });
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", reveal);
if (location.hash) reveal();
