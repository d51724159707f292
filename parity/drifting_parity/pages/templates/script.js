'use strict';
// Pages are whole without this: it opens what a link points into, filters lists, and prints folds.
(() => {
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const unfold = (node) => {
    for (let up = node; up; up = up.parentElement) if (up.tagName === 'DETAILS') up.open = true;
  };

  const reveal = () => {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { /* as it stands */ }
    const target = id && document.getElementById(id);
    if (target) { unfold(target); target.scrollIntoView(); }
  };

  const filter = (input) => {
    const items = [...document.querySelectorAll(input.dataset.filter)].map((node) =>
      [node, `${node.id} ${node.dataset.text ?? node.textContent}`.toLowerCase()]);
    const groups = [...document.querySelectorAll('[data-group]')].filter((group) =>
      items.some(([node]) => group !== node && group.contains(node)));
    const folds = [...new Set(items.map(([node]) => node.parentElement.closest('details')))]
      .filter(Boolean).map((fold) => [fold, fold.open]);
    const count = document.getElementById(input.dataset.count);
    const apply = () => {
      const wanted = words(input.value);
      let shown = 0;
      for (const [node, text] of items) {
        node.hidden = !wanted.every((word) => text.includes(word));
        if (!node.hidden) shown += 1;
      }
      for (const group of groups) {
        group.hidden = wanted.length > 0
          && !items.some(([node]) => !node.hidden && group.contains(node));
      }
      for (const [fold, open] of folds) fold.open = wanted.length > 0 || open;
      if (count) count.textContent = wanted.length ? `${shown} of ${items.length}` : '';
    };
    input.closest('[hidden]')?.removeAttribute('hidden');
    input.addEventListener('input', apply);
    for (const button of document.querySelectorAll(`button[data-for="${input.id}"]`)) {
      button.addEventListener('click', () => { input.value = button.dataset.query; apply(); });
    }
    if (input.value) apply();
  };

  // Search over all pages: entries of id, title, words and address, in the page itself.
  const KINDS = ['symbol', 'section', 'clause', 'readings', 'difference', 'deviation', 'check'];
  const fold = (text) => text.toLowerCase().replace(/iz(?=e|ing|ation)/g, 'is');
  const bare = (text) => fold(text).replace(/[^\p{L}\p{N}]/gu, '').replace(/(?<!\d)0+(?=\d)/g, '');
  const tokens = (text) => text.split(/[\s()[\]{},;:=·|'"]+|\.(?!\d)/).filter(Boolean);
  const stem = (word) => (word.length > 5 ? word.replace(/(?:isation|ation|is(?:e|ed|es|ing)|ing|ed|s)$/, '') : word);

  // How well an entry answers, less is better; Infinity if it does not.
  const distance = (entry, query) => {
    const kind = KINDS.indexOf(entry.kind) / 10 + (entry.kind === 'check' ? 3 : 0);
    const number = /^\(?(?:eq(?:uation|n)?\.?)?\s*\(?(\d+)\)?$/i.exec(query);
    const name = bare(number ? `eq${number[1]}` : query);
    if (name && (entry.bare === name || entry.letter === query.toLowerCase())) return 0;
    if (query.length === 1) return entry.exact.has(query) ? 2 + kind : Infinity;
    const asked = tokens(fold(query));
    if (name.length > 1 && entry.bare.startsWith(name)) return 1 + kind;
    if (!asked.length || !asked.every((word) => entry.text.includes(stem(word)))) return Infinity;
    if (asked.every((word) => entry.heading.has(word))) return 2 + kind;
    if (asked.every((word) => entry.title.includes(stem(word)))) return 3 + kind;
    return (asked.every((word) => entry.tokens.has(word)) ? 4 : 5) + kind;
  };

  const search = (input) => {
    const entries = JSON.parse(document.getElementById(input.dataset.search).textContent)
      .map((entry) => {
        const all = `${entry.id} ${entry.title} ${entry.words}`;
        const symbol = entry.kind === 'symbol';
        const [text, title] = [fold(all), fold(symbol ? entry.id : `${entry.id} ${entry.title}`)];
        return {
          ...entry, text, letter: symbol ? entry.words.split(' ')[0].toLowerCase() : null, shown: `${entry.id} ${entry.title}`, title, bare: bare(entry.id),
          heading: new Set(tokens(title)), tokens: new Set(tokens(text)), exact: new Set(tokens(all)),
        };
      });
    const list = document.getElementById(input.dataset.results);
    const apply = () => {
      const query = input.value.trim().replace(/sqrt\(([^()]*)\)/g, '√$1');
      const found = !query ? [] : entries.map((entry) => [distance(entry, query), entry])
        .filter(([far]) => far < Infinity).sort(([a], [b]) => a - b);
      list.replaceChildren(...found.slice(0, 40).map(([, entry]) => {
        const item = document.createElement('li');
        const link = document.createElement('a');
        link.href = entry.href;
        link.textContent = entry.shown;
        const kind = document.createElement('span');
        kind.className = 'kind';
        kind.textContent = entry.kind;
        item.append(link, ' ', kind);
        return item;
      }));
      const count = document.getElementById(input.dataset.count);
      count.textContent = !query ? '' : found.length > 40 ? `40 of ${found.length}` : `${found.length}`;
    };
    input.closest('[hidden]')?.removeAttribute('hidden');
    input.addEventListener('input', apply);
    input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') list.querySelector('a')?.click();
    });
    const asked = new URLSearchParams(location.search).get('q');
    if (asked) input.value = asked;
    if (input.value) apply();
  };

  document.querySelectorAll('input[data-filter]').forEach(filter);
  document.querySelectorAll('input[data-search]').forEach(search);
  addEventListener('hashchange', reveal);
  reveal();

  // "/" goes to the first search or filter, Escape empties it.
  addEventListener('keydown', (event) => {
    const input = document.querySelector('input[type="search"]');
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? '');
    if (event.key === '/' && input && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
    }
  });

  // What scrolls on its own can be reached by keyboard.
  const reachable = () => {
    for (const node of document.querySelectorAll('.wide, .math')) {
      if (node.scrollWidth > node.clientWidth + 1) node.tabIndex = 0;
      else node.removeAttribute('tabindex');
    }
  };
  reachable();
  addEventListener('resize', reachable);
  document.addEventListener('toggle', reachable, true);

  let folded = [];
  addEventListener('beforeprint', () => {
    folded = [...document.querySelectorAll('details:not([open])')];
    for (const fold of folded) fold.open = true;
  });
  addEventListener('afterprint', () => { for (const fold of folded) fold.open = false; });
})();
