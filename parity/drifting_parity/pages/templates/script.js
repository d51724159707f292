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
  const search = (input) => {
    const entries = JSON.parse(document.getElementById(input.dataset.search).textContent)
      .map((entry) => ({ ...entry, text: `${entry.id} ${entry.title} ${entry.words}`.toLowerCase() }));
    const list = document.getElementById(input.dataset.results);
    const bare = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');
    const rank = (entry, query) => {
      if (bare(entry.id) === bare(query)) return 0;
      if (bare(entry.id).startsWith(bare(query))) return 1;
      return entry.title.toLowerCase().includes(query) ? 2 : 3;
    };
    const apply = () => {
      const query = input.value.trim().toLowerCase();
      const found = !query ? [] : entries
        .filter((entry) => words(query).every((word) => entry.text.includes(word))
          || (bare(query) && bare(entry.id).startsWith(bare(query))))
        .sort((a, b) => rank(a, query) - rank(b, query));
      list.replaceChildren(...found.slice(0, 40).map((entry) => {
        const item = document.createElement('li');
        const link = document.createElement('a');
        link.href = entry.href;
        link.textContent = `${entry.id} ${entry.title}`;
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
