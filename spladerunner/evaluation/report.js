"use strict";
// Shows the queries whose text, tokens and documents hold every word that is searched for.
const filter = document.querySelector(".filter");
if (filter) {
  filter.hidden = false;
  const decisions = [...document.querySelectorAll(".decision")].map((element) => ({
    element,
    kind: element.dataset.kind,
    text: element.textContent.toLowerCase(),
  }));
  const show = () => {
    const words = filter.querySelector("[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = filter.querySelector("[name=kind]:checked").value;
    let shown = 0;
    for (const decision of decisions) {
      const fits = (kind === "all" || kind === decision.kind) && words.every((word) => decision.text.includes(word));
      decision.element.hidden = !fits;
      shown += fits;
    }
    filter.querySelector("output").textContent = `${shown} of ${decisions.length}`;
    document.querySelector(".none").hidden = shown > 0;
  };
  filter.addEventListener("input", show);
  filter.addEventListener("submit", (event) => event.preventDefault());
  show();
}
