"use strict";
(() => {
  const value = (row, place) => {
    const text = row.cells[place].dataset.value;
    return text === undefined ? null : text;
  };
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  for (const table of document.querySelectorAll("table.main")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, place) => {
      head.querySelector("button").addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        const first = place === 0 ? "ascending" : "descending";
        const other = place === 0 ? "descending" : "ascending";
        const order = was === first ? other : first;
        heads.forEach((each) => each.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [value(a, place), value(b, place)];
          if (x === null || y === null) return (x === null) - (y === null); // what has no number stands last
          return sign * compare(x, y);
        });
        body.append(...rows);
      });
    });
  }

  const attack = document.getElementById("choose-attack");
  const label = document.getElementById("choose-class");
  if (attack && label) {
    const choose = () => {
      for (const card of document.querySelectorAll("#gallery .card")) {
        const wanted = label.value === "" || card.dataset.class === label.value;
        card.hidden = !(card.dataset.attack === attack.value && wanted);
      }
    };
    attack.addEventListener("change", choose);
    label.addEventListener("change", choose);
    choose(); // a browser may have kept another choice over a reload
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((each) => (each.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((each) => (each.open = false)));
})();
