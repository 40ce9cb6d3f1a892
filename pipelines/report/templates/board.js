"use strict";
// Without this script the tables are read as they stand: it only sorts rows and hides those that are not asked for.
const rowsOf = (table) => [...table.tBodies[0].rows];

function valueOf(row, column) {
  const cell = row.cells[column];
  if (column === 0) return cell.textContent.trim();
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null); // what was not measured stays below
  return sign * (typeof one === "string" ? one.localeCompare(other) : one - other);
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  // Figures begin with the largest, names with the first of the alphabet.
  const first = column === 0 ? "ascending" : "descending";
  const second = column === 0 ? "descending" : "ascending";
  const order = heads[column].getAttribute("aria-sort") === first ? second : first;
  heads.forEach((head, number) => head.setAttribute("aria-sort", number === column ? order : "none"));
  const sign = order === "ascending" ? 1 : -1;
  const sorted = rowsOf(table).sort((a, b) => compare(valueOf(a, column), valueOf(b, column), sign));
  table.tBodies[0].append(...sorted);
}

function filter(text) {
  let shown = 0;
  const rows = tables.flatMap(rowsOf);
  for (const row of rows) {
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(text.toLowerCase());
    shown += !row.hidden;
  }
  document.getElementById("shown").textContent = text ? `${shown} of ${rows.length}` : "";
}

const tables = [...document.querySelectorAll("table.board")];
for (const table of tables) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    head.append(button);
  });
}
document.querySelector(".filter").hidden = false;
document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value));
