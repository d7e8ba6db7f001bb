"use strict";

// Everything works without this script but what it adds: the accuracy budget, sorting and copying.

const byId = (id) => document.getElementById(id);

function setUpBudget() {
  if (!byId("choices")) return;
  const { own, from } = JSON.parse(byId("choices").textContent);
  const slider = byId("budget-slider");
  const field = byId("budget");
  const near = (one, other) => Math.abs(one - other) < 1e-9;

  function chosen(margin) {
    if (near(margin, own.margin)) return own;
    return from.filter((choice) => choice.margin <= margin + 1e-9).pop() ?? from[0];
  }

  function show(points) {
    const choice = chosen(points / 100);
    byId("closing").replaceChildren(...choice.line.map(written));
    for (const marked of document.querySelectorAll("[data-variant]")) {
      marked.classList.toggle("recommended", marked.dataset.variant === choice.variant);
    }
    for (const line of document.querySelectorAll(".budget")) {
      line.setAttribute("transform", `translate(0 ${line.dataset.perPoint * points})`);
      line.querySelector(".amount").textContent = points.toFixed(1);
    }
  }

  // Down to a tenth, so that what is shown is never a greater loss than was allowed.
  function change(from, to) {
    if (from.value === "" || !from.validity.valid && !from.validity.stepMismatch) return;
    const points = Math.floor(10 * Number(from.value) + 1e-9) / 10;
    to.value = points;
    show(points);
  }

  slider.addEventListener("input", () => change(slider, field));
  field.addEventListener("input", () => change(field, slider));
  field.addEventListener("change", () => { field.value = slider.value; });
  byId("control").hidden = false;
}

function written(part) {
  if (!part.name) return document.createTextNode(part.text);
  const code = document.createElement("code");
  code.textContent = part.text;
  return code;
}

function setUpSorting() {
  const table = byId("sortable");
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const opposite = { ascending: "descending", descending: "ascending" };
      const order = opposite[head.getAttribute("aria-sort")] ?? head.dataset.first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sort(table.tBodies[0], column, order === "ascending" ? 1 : -1);
    });
  });
}

function sort(body, column, sign) {
  const key = (row) => row.cells[column].dataset.key;
  const compared = (one, other) =>
    isNaN(one) || isNaN(other) ? one.localeCompare(other) : one - other;
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * compared(a, b);
  });
  body.append(...rows);
}

function setUpCopying() {
  const button = byId("copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(byId("command").textContent);
      byId("copied").textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(byId("command"));
      byId("copied").textContent = "Selected; copy it with the keyboard.";
    }
  });
  button.hidden = false;
}

setUpBudget();
setUpSorting();
setUpCopying();
