/* The vote page: bars that move, and a ballot without a reload. */
(function () {
  'use strict';
  var page = Longshore.page;
  var room = 'vote/' + page.name;
  var vote = page.vote;              // {version, open, question, options, counts, total}, or none yet
  var choice = page.choice;
  var counted = choice;              // the choice that the server has
  var casting = false;
  var address = window.location.pathname;
  var bars = Longshore.byId('bars');

  function each(list, apply) { Array.prototype.forEach.call(list, apply); }

  function answer(text, index) {
    var svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    var rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    var made = Longshore.element('button', { type: 'submit', name: 'choice', value: String(index + 1) });
    svg.setAttribute('class', 'fill');
    svg.setAttribute('width', '100%');
    svg.setAttribute('height', '100%');
    svg.setAttribute('aria-hidden', 'true');
    rect.setAttribute('height', '100%');
    svg.appendChild(rect);
    made.appendChild(svg);
    made.appendChild(Longshore.element('span', { 'class': 'answer-text', text: text }));
    made.appendChild(Longshore.element('span', { 'class': 'answer-count' }, [Longshore.element('b'), Longshore.element('span')]));
    return Longshore.element('li', {}, [made]);
  }

  function rebuild() {
    Longshore.byId('question').textContent = vote.question;
    document.title = vote.question;
    Longshore.clear(bars);
    bars.className = vote.options.length > 6 ? 'bars many' : 'bars';
    each(vote.options, function (text, index) { bars.appendChild(answer(text, index)); });
  }

  function hint() {
    if (!vote.open) { return Longshore.text('js.vote.closed'); }
    return choice ? Longshore.text('js.vote.voted') : Longshore.text('js.vote.open');
  }

  function draw() {
    var most = Math.max.apply(null, vote.counts);
    var box = Longshore.byId('vote');
    each(bars.querySelectorAll('button'), function (button, index) {
      var count = vote.counts[index];
      var percent = vote.total ? Math.round(count * 100 / vote.total) : 0;
      var chosen = choice === index + 1;
      button.className = 'answer' + (chosen ? ' chosen' : '') + (count && count === most ? ' leads' : '');
      button.setAttribute('aria-pressed', String(chosen));
      button.disabled = !vote.open;
      button.querySelector('rect').setAttribute('width', percent + '%');
      button.querySelector('b').textContent = count;
      button.querySelector('.answer-count span').textContent = percent + '%';
    });
    box.setAttribute('data-open', String(vote.open));
    box.setAttribute('data-voted', String(!!choice));
    Longshore.byId('total').textContent = Longshore.text('js.vote.total', { n: vote.total });
    Longshore.byId('hint').textContent = hint();
  }

  /* Takes what the room is told; every message has all counts, so the newest alone matters. */
  function take(told) {
    var isNew = told.options !== undefined;
    if (!vote) {
      if (isNew) { window.location.reload(); }       // somebody asks something at this address
      return;
    }
    if (typeof told.version !== 'number' || told.version <= vote.version) { return; }
    vote.version = told.version;
    vote.open = told.open;
    vote.counts = told.counts;
    vote.total = told.total;
    if (isNew) {
      vote.question = told.question;
      vote.options = told.options;
      choice = counted = null;
      rebuild();
    }
    draw();
  }

  /* Reads the whole state anew, where messages were missed. */
  function reread() {
    Longshore.request('GET', address, {}, function (error, state) {
      if (error || !state || !state.vote) { return; }
      if (!vote) { return window.location.reload(); }
      vote = state.vote;
      choice = counted = state.choice;
      rebuild();
      draw();
    });
  }

  /* One ballot at a time, since two on their way may overtake each other; the last choice goes next. */
  function cast(chosen) {
    choice = chosen;
    draw();
    if (!casting) { send(chosen, counted); }
  }

  function send(chosen, before) {
    casting = true;
    Longshore.request('POST', address, { form: { choice: chosen } }, function (error, told) {
      casting = false;
      if (!error) { counted = chosen; take(told); }
      if (choice !== chosen && choice !== null) { return send(choice, counted); }
      if (!error) { return; }
      choice = before;
      draw();
      Longshore.toast(error.message);
    });
  }

  function showHere(count) {
    var here = Longshore.byId('here');
    if (!here) { return; }
    here.hidden = !count;
    here.textContent = Longshore.text('js.vote.here', { n: count });
  }

  function onMessage(message) {
    if (message.kind === 'presence') { return showHere(message.data.count); }
    if (message.kind === 'vote' && typeof message.data === 'object') { take(message.data); }
  }

  function offerFullscreen() {
    var box = Longshore.byId('vote');
    var button = Longshore.byId('fullscreen');
    var ask = box.requestFullscreen || box.webkitRequestFullscreen;
    if (!ask) { return; }
    button.hidden = false;
    button.addEventListener('click', function () {
      if (document.fullscreenElement || document.webkitFullscreenElement) {
        (document.exitFullscreen || document.webkitExitFullscreen).call(document);
      } else { ask.call(box); }
    });
  }

  if (vote) {
    Longshore.byId('ballot').addEventListener('submit', function (event) { event.preventDefault(); });
    bars.addEventListener('click', function (event) {
      var at = event.target;
      while (at && at !== bars && at.nodeName !== 'BUTTON') { at = at.parentNode; }
      if (!at || at === bars || at.disabled) { return; }
      event.preventDefault();
      cast(Number(at.value));
    });
    offerFullscreen();
  }

  Longshore.subscribe({
    rooms: [room, 'presence/' + room],
    client: page.client,
    after: page.cursor,
    onState: Longshore.showLive,
    onMessage: onMessage,
    onGap: reread
  });
}());
