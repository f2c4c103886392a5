// How the search orders what it finds; Sphinx's own figures, but for the language: pages in the language of the
// page that was searched from come first.
var Scorer = {
  score: ([page, , , , score]) => {
    const spanish = /^docs\/(tutorial\/)?es\//.test(page);
    return spanish === (document.documentElement.lang === "es") ? score + 1000 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
