/* The flow chart: rows {key, parent, text, figure, color, link_color, link_text, state, version} as a left-to-right
   tree in SVG, placed by flow-layout.js. One look a state; an unknown colour is taken as it is written. */
(function () {
  'use strict';
  var SVG = 'http://www.w3.org/2000/svg';
  var NODE_HEIGHT = Longshore.flowLayout.NODE_HEIGHT;
  var SMALLEST_SCALE = 0.72;     // "fit" makes it no smaller: text must stay readable
  var GROUP_ABOVE = 50;          // children of one node, above which they come in groups
  var GROUP_SIZE = 20;

  /* A shape for each state, so that colour is never alone; about the origin. */
  var GLYPHS = {
    waiting: 'M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0', running: 'M0 -5.5A5.5 5.5 0 1 1 -5.5 0', succeeded: 'M-5 .5L-1.5 4L5.5 -4',
    failed: 'M-4 -4L4 4M4 -4L-4 4', cancelled: 'M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0M-3.5 3.5L3.5 -3.5', skipped: 'M-5 0H5',
    interrupted: 'M0 -5L5.5 5H-5.5Z'
  };
  var KEYS = { 13: 'select', 32: 'select', 35: 'last', 36: 'first', 37: 'parent', 38: 'above', 39: 'child', 40: 'below' };

  function draw(tag, attributes, parent) {
    var made = document.createElementNS(SVG, tag);
    Object.keys(attributes || {}).forEach(function (name) { made.setAttribute(name, attributes[name]); });
    if (parent) { parent.appendChild(made); }
    return made;
  }

  /* The outline of a figure of this size; an unknown figure is a rounded rectangle. */
  function outline(figure, width, height) {
    var middle = height / 2;
    if (figure === 'Ellipse' || figure === 'Circle') {
      return draw('ellipse', { cx: width / 2, cy: middle, rx: width / 2, ry: middle });
    }
    if (figure === 'Diamond') {
      return draw('path', { d: 'M0 ' + middle + 'L' + width / 2 + ' -5L' + width + ' ' + middle + 'L' + width / 2 + ' ' + (height + 5) + 'Z' });
    }
    return draw('rect', { x: 0, y: 0, width: width, height: height, rx: figure === 'Rectangle' ? 0 : 8 });
  }

  /* options: {label, onSelect(key), groupAbove, colors: [[state, colour], …], the server's own list} */
  Longshore.Flow = function (element, rows, options) {
    var settings = options || {};
    var STATE_OF_COLOR = {};
    (settings.colors || []).forEach(function (pair) { STATE_OF_COLOR[pair[1]] = pair[0]; });
    var byKey = {};              // key -> row, groups among them
    var childrenOf = {};         // key -> rows in their order; '' holds the roots
    var drawn = {};              // key -> {g, shape, glyph, label, title, link, linkText, place}
    var opened = {};             // keys of groups that the reader opened
    var places = [];             // laid out nodes, parents first
    var selected = null;
    var current = null;          // the node that Tab comes to
    var scale = 1;
    var fitted = true;
    var size = { width: 0, height: 0 };
    var scroll = Longshore.element('div', { 'class': 'flow-scroll' });
    var svg = draw('svg', { role: 'tree', 'aria-label': settings.label || '', focusable: 'false' }, scroll);

    function link(rows_) {
      byKey = {};
      childrenOf = { '': [] };
      rows_.forEach(function (row) {
        byKey[row.key] = row;
        var parent = row.parent && byKey[row.parent] ? row.parent : '';
        (childrenOf[parent] = childrenOf[parent] || []).push(row);
      });
      Object.keys(childrenOf).forEach(group);
    }

    /* Too many children of one node become groups, closed until the reader opens one. */
    function group(parent) {
      var members = childrenOf[parent];
      if (members.length <= (settings.groupAbove || GROUP_ABOVE)) { return; }
      var length = Math.max(GROUP_SIZE, Math.ceil(members.length / 25));
      childrenOf[parent] = [];
      for (var first = 0; first < members.length; first += length) {
        var part = members.slice(first, first + length);
        var row = {
          key: 'group-' + parent + '-' + first, parent: parent, figure: 'Rectangle', isGroup: true,
          text: Longshore.text('js.flow.group', { first: first + 1, last: first + part.length })
        };
        byKey[row.key] = row;
        childrenOf[row.key] = part;
        childrenOf[parent].push(row);
        part.forEach(function (member) { member.group = row.key; });
        sum(row);
      }
    }

    function statesBelow(row) {
      return (childrenOf[row.key] || []).reduce(function (states, child) { return states.concat(statesBelow(child)); }, [look(row)]);
    }

    /* A group's state is the gravest of its servers'; its link says how many are done. */
    function sum(row) {
      var members = childrenOf[row.key].map(statesBelow);
      function count(test) { return members.filter(test).length; }
      function has(state) { return function (states) { return states.indexOf(state) >= 0; }; }
      function every(state) { return function (states) { return states.every(function (one) { return one === state; }); }; }
      var total = members.length;
      var done = count(every('succeeded'));
      var failed = count(has('failed'));
      var active = count(has('running')) || (count(every('waiting')) < total && count(has('waiting')));
      row.state = failed ? 'failed' : count(has('interrupted')) ? 'interrupted' : active ? 'running' : done === total ? 'succeeded' :
        count(has('cancelled')) ? 'cancelled' : count(has('skipped')) ? 'skipped' : 'waiting';
      row.link_text = done + '/' + total;
      row.note = Longshore.text('js.flow.group_state', { done: done, total: total, failed: failed });
    }

    function look(row) { return row.look || row.state || STATE_OF_COLOR[row.color] || 'waiting'; }

    function visible(row) {
      var closed = row.isGroup && !opened[row.key];
      return { row: row, children: closed ? null : (childrenOf[row.key] || []).map(visible) };
    }

    function label(row) {
      return Longshore.text('js.flow.node', { text: row.text, state: row.note || Longshore.text('state.' + look(row)) });
    }

    function layout() {
      var roots = childrenOf[''];
      // Several roots hang on one that is not drawn.
      var found = Longshore.flowLayout(roots.length === 1 ? visible(roots[0]) : { row: null, children: roots.map(visible) });
      places = found.places;
      size = found;
    }

    function drawLink(place, parent) {
      var from = place.parent;
      if (!from || !from.data.row) { return null; }
      var y0 = from.top + NODE_HEIGHT / 2;
      var y1 = place.top + NODE_HEIGHT / 2;
      var turn = y1 > y0 ? Math.min(8, (y1 - y0) / 2) : -Math.min(8, (y0 - y1) / 2);
      var curve = Math.abs(turn);
      var path = 'M' + (from.left + from.width) + ' ' + y0 + (turn ? 'H' + (place.bend - curve) + 'Q' + place.bend + ' ' + y0 + ' ' + place.bend + ' ' + (y0 + turn) +
        'V' + (y1 - turn) + 'Q' + place.bend + ' ' + y1 + ' ' + (place.bend + curve) + ' ' + y1 : '') + 'H' + (place.left - 6);
      var g = draw('g', { 'class': 'link', 'data-to': place.data.row.key, 'aria-hidden': 'true' }, parent);
      draw('path', { d: path }, g);
      draw('path', { 'class': 'arrow', d: 'M' + (place.left - 1) + ' ' + y1 + 'l-8 -4v8z' }, g);
      return { g: g, text: draw('text', { x: place.left - 12, y: y1 - 6, 'text-anchor': 'end' }, g) };
    }

    function drawNode(place, parent) {
      var row = place.data.row;
      var g = draw('g', {
        'data-key': row.key, role: 'treeitem', tabindex: '-1', focusable: 'true', 'aria-level': place.level + 1,
        transform: 'translate(' + place.left + ' ' + place.top + ')'
      }, parent);
      if (row.isGroup) { g.setAttribute('aria-expanded', String(Boolean(opened[row.key]))); }
      draw('rect', { 'class': 'ring', x: -4, y: -4, width: place.width + 8, height: NODE_HEIGHT + 8, rx: 11 }, g);
      var shape = g.appendChild(outline(row.figure, place.width, NODE_HEIGHT));
      shape.setAttribute('class', 'shape');
      var inset = row.figure === 'Diamond' ? 42 : row.figure === 'Ellipse' ? 26 : 19;
      var glyph = draw('path', { 'class': 'glyph' }, draw('g', { transform: 'translate(' + inset + ' ' + NODE_HEIGHT / 2 + ')' }, g));
      draw('text', { x: inset + 14, y: NODE_HEIGHT / 2 + 4.5 }, g).textContent = Longshore.flowLayout.shorten(row.text);
      var title = draw('title', {}, g);
      g.addEventListener('click', function () { choose(row.key); });
      g.addEventListener('keydown', function (event) { onKey(event, row.key); });
      g.addEventListener('focus', function () { current = row.key; });
      return { g: g, shape: shape, glyph: glyph, title: title };
    }

    /* Colours a node and its link by their row, drawing nothing anew. */
    function paint(key) {
      var parts = drawn[key];
      var row = byKey[key];
      if (!parts) { return; }
      var state = look(row);
      var known = !row.color || STATE_OF_COLOR.hasOwnProperty(row.color);
      parts.g.setAttribute('class', 'node is-' + state + (key === selected ? ' selected' : '') + (row.isGroup ? ' group' : ''));
      parts.g.setAttribute('data-state', row.state || state);
      parts.g.setAttribute('data-color', row.color || '');
      parts.g.setAttribute('data-version', row.version || 0);
      parts.g.setAttribute('aria-label', label(row));
      parts.g.setAttribute('aria-selected', String(key === selected));
      parts.g.setAttribute('tabindex', key === current ? '0' : '-1');
      parts.shape.style.fill = parts.shape.style.stroke = known ? '' : row.color;
      parts.shape.style.fillOpacity = known ? '' : '0.3';      // the text on it must stay readable
      parts.glyph.setAttribute('d', GLYPHS[state] || GLYPHS.waiting);
      parts.title.textContent = label(row);
      if (!parts.link) { return; }
      var linkColor = row.link_color || row.color || '';
      var linkState = row.isGroup ? state : STATE_OF_COLOR[linkColor];
      parts.link.g.setAttribute('class', 'link is-' + (linkState === 'waiting' || !linkState ? 'waiting' : linkColor === row.color ? state : linkState));
      parts.link.g.setAttribute('data-color', linkColor);
      Array.prototype.forEach.call(parts.link.g.querySelectorAll('path'), function (path) {
        var property = path.getAttribute('class') === 'arrow' ? 'fill' : 'stroke';
        path.style[property] = linkState || !linkColor ? '' : linkColor;
      });
      parts.link.text.textContent = row.link_text || '';
    }

    function render() {
      var hadFocus = current && drawn[current] && document.activeElement === drawn[current].g;
      layout();
      Longshore.clear(svg);
      drawn = {};
      var links = draw('g', { role: 'presentation' }, svg);
      var nodes = draw('g', { role: 'presentation' }, svg);
      places.forEach(function (place) {
        var key = place.data.row.key;
        var joint = drawLink(place, links);
        drawn[key] = drawNode(place, nodes);
        drawn[key].link = joint;
        drawn[key].place = place;
      });
      if (!drawn[current]) { current = places.length ? places[0].data.row.key : null; }
      Object.keys(drawn).forEach(paint);
      zoom(fitted ? fitting() : scale);
      if (hadFocus) { focus(current); }
    }

    function fitting() {
      var room = scroll.clientWidth || element.clientWidth;
      return size.width && room ? Math.max(SMALLEST_SCALE, Math.min(1, room / size.width)) : 1;
    }

    function zoom(next) {
      scale = Math.max(0.3, Math.min(2, next));
      svg.setAttribute('viewBox', '0 0 ' + size.width + ' ' + size.height);
      svg.setAttribute('width', Math.floor(size.width * scale));
      svg.setAttribute('height', Math.floor(size.height * scale));
    }

    /* Scrolls the chart's own box, never the page, so that this node is in sight. */
    function reveal(key) {
      var place = drawn[key] && drawn[key].place;
      if (!place) { return; }
      var left = place.left * scale;
      var right = (place.left + place.width) * scale;
      var middle = (place.top + NODE_HEIGHT / 2) * scale;
      if (left < scroll.scrollLeft || right > scroll.scrollLeft + scroll.clientWidth) {
        scroll.scrollLeft = (left + right - scroll.clientWidth) / 2;
      }
      if (middle < scroll.scrollTop || middle > scroll.scrollTop + scroll.clientHeight) {
        scroll.scrollTop = middle - scroll.clientHeight / 2;
      }
    }

    function focus(key) {
      var before = current;
      current = key;
      paint(before);
      paint(key);
      if (drawn[key] && drawn[key].g.focus) { drawn[key].g.focus(); }
    }

    function choose(key) {
      var row = byKey[key];
      if (row.isGroup) {
        opened[key] = !opened[key];
        current = key;
        render();
        focus(key);
        return;
      }
      focus(key);
      select(key);
      if (settings.onSelect) { settings.onSelect(key); }
    }

    /* The node that an arrow key leads to: left and right along the tree, up and down within a column. */
    function neighbour(key, way) {
      var place = drawn[key].place;
      var column = places.filter(function (other) { return other.level === place.level; })
        .sort(function (one, other) { return one.top - other.top; });
      var at = column.indexOf(place);
      var found = { parent: place.parent, child: (place.children || [])[0], above: column[at - 1], below: column[at + 1], first: places[0], last: places[places.length - 1] }[way];
      return found && found.data.row ? found.data.row.key : null;
    }

    function onKey(event, key) {
      var way = KEYS[event.keyCode];
      if (!way || event.ctrlKey || event.metaKey || event.altKey) { return; }
      event.preventDefault();
      if (way === 'select') { return choose(key); }
      var next = neighbour(key, way);
      if (next) { focus(next); }
    }

    function select(key) {
      var before = selected;
      selected = byKey[key] ? key : null;
      paint(before);
      paint(selected);
      reveal(selected);
    }

    function groupOf(row) {
      while (row && !row.group) { row = byKey[row.parent]; }
      return row ? row.group : null;
    }

    /* Sets a property of a node, as the diagram's setDataProperty does; text and figure lay the tree out anew. */
    function set(key, property, value) {
      var row = byKey[key];
      if (!row || row[property] === value) { return; }
      row[property] = value;
      if (property === 'color' && STATE_OF_COLOR.hasOwnProperty(value)) { row.look = STATE_OF_COLOR[value]; }
      if (property === 'state') { row.look = value; }
      if (property === 'text' || property === 'figure') { return render(); }
      paint(key);
      var group = groupOf(row);
      if (group) {
        sum(byKey[group]);
        paint(group);
      }
    }

    /* Takes a node message; one that is not newer than what is shown is ignored. True when it was taken. */
    function apply(message) {
      var row = byKey[message.key];
      if (!row || (message.version || 0) <= (row.version || 0)) { return false; }
      ['version', 'text', 'figure', 'link_color', 'link_text', 'color', 'state'].forEach(function (property) {
        if (message.hasOwnProperty(property)) { set(message.key, property, message[property]); }
      });
      paint(message.key);
      return true;
    }

    function load(rows_) {
      link(rows_.map(function (row) {
        var copy = {};
        Object.keys(row).forEach(function (name) { copy[name] = row[name]; });
        return copy;
      }));
      render();
    }

    function button(name, sign, act) {
      var made = Longshore.element('button', { type: 'button', 'class': 'button quiet', title: Longshore.text(name), 'aria-label': Longshore.text(name), text: sign });
      made.addEventListener('click', act);
      return made;
    }

    function by(factor) { return function () { fitted = false; zoom(scale * factor); }; }

    Longshore.clear(element);
    element.appendChild(scroll);
    element.appendChild(Longshore.element('div', { 'class': 'flow-tools' }, [
      button('js.flow.smaller', '−', by(1 / 1.2)),
      button('js.flow.fit', Longshore.text('js.flow.fit'), function () { fitted = true; zoom(fitting()); }),
      button('js.flow.larger', '+', by(1.2))
    ]));
    window.addEventListener('resize', function () {
      if (fitted) { zoom(fitting()); }
      reveal(selected);
    });
    load(rows);

    return {
      set: set, apply: apply, load: load, select: select, focus: focus, reveal: reveal,
      row: function (key) { return byKey[key] || null; },
      keys: function () { return Object.keys(byKey).filter(function (key) { return !byKey[key].isGroup; }); },
      svg: svg
    };
  };
}());
