/* Chooses what to release: a branch or a tag, then one of its last commits. It fills the two plain text
   fields of the form, which stay in charge where the repository cannot be read. */
(function () {
  'use strict';
  var text = Longshore.text;
  var element = Longshore.element;
  var project = Longshore.byId('project_id');
  var refField = Longshore.byId('ref');
  var commitField = Longshore.byId('commit');
  var plain = Longshore.byId('ref-plain');
  var picker = Longshore.byId('ref-picker');
  var refs = { branches: [], tags: [] };
  var kind = 'branch';
  var asked = 0;             // answers of an earlier choice are dropped
  var following = null;      // the room of the chosen project

  var ageBox = element('p', { 'class': 'hint', id: 'ref-age', role: 'status' });
  var refBox = element('div', {});
  var commitBox = element('div', {});

  function say(box, message, isError) {
    Longshore.clear(box);
    box.appendChild(element('p', { 'class': isError ? 'notice is-error' : 'hint', text: message }));
  }

  function clearCommits() {
    Longshore.clear(commitBox);
    commitBox.style.minHeight = '';
  }

  function fallBack(message) {
    picker.hidden = false;
    showPlain(true, true);
    clearCommits();
    say(refBox, text('js.picker.failed', { message: message }), true);
  }

  /* A list of which one is chosen. items: {value, label, code?, note?} */
  function options(label, items, chosen, choose) {
    var list = element('div', { 'class': 'options', role: 'radiogroup', 'aria-label': label });
    items.forEach(function (item) {
      var option = element('button', { type: 'button', 'class': 'option', role: 'radio', 'aria-checked': String(item.value === chosen), 'data-value': item.value }, [
        item.code ? element('code', { text: item.code }) : null,
        element('span', { 'class': 'grow', text: item.label }),
        item.note ? element('span', { 'class': 'muted', text: item.note }) : null
      ]);
      option.addEventListener('click', function () {
        Array.prototype.forEach.call(list.children, function (other) { other.setAttribute('aria-checked', String(other === option)); });
        choose(item.value);
      });
      list.appendChild(option);
    });
    if (!items.length) { list.appendChild(element('p', { 'class': 'hint', text: text('js.picker.none') })); }
    return list;
  }

  function tabs() {
    var row = element('div', { 'class': 'segments', role: 'radiogroup' });
    ['branch', 'tag', 'commit'].forEach(function (name) {
      var radio = element('input', { type: 'radio', name: 'ref-kind', value: name });
      radio.checked = name === kind;
      radio.addEventListener('change', function () { chooseKind(name); });
      row.appendChild(element('label', { 'class': 'segment' }, [radio, element('span', { text: text('js.picker.' + name) })]));
    });
    return row;
  }

  /* What was chosen of another kind is forgotten: the form sends only what is in sight. */
  function chooseKind(name) {
    kind = name;
    refField.value = name === 'branch' ? preferred() : '';
    commitField.value = '';
    showRefs();
    var now = picker.querySelector('input[value="' + name + '"]');
    if (name !== 'commit') { now.focus(); }
  }

  function showPlain(ref, commit) {
    plain.hidden = !ref && !commit;
    refField.parentNode.hidden = !ref;
    commitField.parentNode.hidden = !commit;
  }

  function filtered(list) {
    var search = element('input', { type: 'search', placeholder: text('js.picker.filter'), 'aria-label': text('js.picker.filter') });
    search.addEventListener('input', function () {
      var wanted = search.value.toLowerCase();
      Array.prototype.forEach.call(list.children, function (option) {
        option.hidden = option.textContent.toLowerCase().indexOf(wanted) < 0;
      });
    });
    search.addEventListener('keydown', function (event) { if (event.keyCode === 13) { event.preventDefault(); } });
    return search;
  }

  function showRefs() {
    Longshore.clear(refBox);
    clearCommits();
    refBox.appendChild(tabs());
    showPlain(false, kind === 'commit');
    if (kind === 'commit') { return commitField.focus(); }
    var known = kind === 'branch' ? refs.branches : refs.tags;
    var items = known.map(function (ref) { return { value: ref.name, label: ref.name, note: String(ref.commit || '').slice(0, 7) }; });
    var list = options(text('js.picker.' + kind), items, refField.value, chooseRef);
    if (items.length > 8) { refBox.appendChild(filtered(list)); }
    refBox.appendChild(list);
    if (refs.left_out && refs.left_out.length) {
      refBox.appendChild(element('p', { 'class': 'hint', text: text('js.picker.left_out', { names: refs.left_out.join(', ') }) }));
    }
    if (known.some(function (ref) { return ref.name === refField.value; })) { showCommits(refField.value); }
  }

  function chooseRef(name) {
    refField.value = name;
    commitField.value = '';
    showCommits(name);
  }

  function showCommits(name) {
    var turn = (asked += 1);
    // What stands below does not jump up for a moment, and away from a click.
    commitBox.style.minHeight = commitBox.offsetHeight + 'px';
    say(commitBox, text('js.picker.loading'));
    Longshore.request('GET', '/api/v1/projects/' + encodeURIComponent(project.value) + '/commits?ref=' + encodeURIComponent(name), {}, function (error, commits) {
      if (turn !== asked || refField.value !== name) { return; }
      clearCommits();
      if (error) { return say(commitBox, text('js.picker.failed', { message: error.message }), true); }
      var items = commits.map(function (commit) {
        return { value: commit.commit, code: commit.commit, label: commit.summary, note: commit.author + ' · ' + commit.date };
      });
      commitBox.appendChild(element('h2', { text: text('js.picker.commits') }));
      commitBox.appendChild(element('p', { 'class': 'hint', text: text('js.picker.newest') }));
      commitBox.appendChild(options(text('js.picker.commits'), items, commitField.value, function (value) { commitField.value = value; }));
    });
  }

  function guessKind() {
    function holds(list) { return list.some(function (ref) { return ref.name === refField.value; }); }
    if (!refField.value && commitField.value) { return 'commit'; }
    return !holds(refs.branches) && holds(refs.tags) ? 'tag' : 'branch';
  }

  function preferred() {
    var names = refs.branches.map(function (ref) { return ref.name; });
    function has(name) { return name && names.indexOf(name) >= 0; }
    return has(refs.default_branch) ? refs.default_branch : has('main') ? 'main' : has('master') ? 'master' : names[0] || '';
  }

  /* How old the names are, and what goes on beside. */
  function showAge() {
    Longshore.clear(ageBox);
    function add(key, args) { ageBox.appendChild(element('span', { text: text('js.picker.' + key, args) + ' ' })); }
    if (refs.fetched_at) {
      add('fetched');
      ageBox.appendChild(element('time', { datetime: refs.fetched_at, text: refs.fetched_at }));
      ageBox.appendChild(document.createTextNode(' '));
    }
    if (refs.fetching) { add('fetching'); }
    if (!refs.fetching && refs.error) { add('fetch_failed', { message: refs.error.message }); }
    if (Longshore.times) { Longshore.times(); }
  }

  function path(rest) { return '/api/v1/projects/' + encodeURIComponent(project.value) + '/refs' + rest; }

  /* The room tells when a fetch is done; then the names are read anew, without another fetch. */
  function follow() {
    if (following) { following.close(); }
    following = null;
    if (!project.value) { return; }
    following = Longshore.subscribe({
      rooms: ['project/' + project.value],
      after: Longshore.page.cursor,
      onGap: refresh,
      onMessage: function (message) {
        if (message.kind === 'project' && message.data && message.data.what === 'refs') { refresh(); }
      }
    });
  }

  function refresh() {
    var of = project.value;
    Longshore.request('GET', path('?fetch=false'), {}, function (error, answer) {
      if (project.value !== of) { return; }
      if (error) { return refs.fetched_at ? undefined : fallBack(error.message); }
      var isSame = JSON.stringify([refs.branches, refs.tags]) === JSON.stringify([answer.branches, answer.tags]);
      var isFirst = !refs.fetched_at;
      refs = answer;
      showAge();
      // Names that did not change stay as they are, with what was chosen of them.
      if (isFirst) { show(); } else if (!isSame && kind !== 'commit') { showRefs(); }
    });
  }

  function load() {
    var turn = (asked += 1);
    picker.hidden = !project.value;
    var refused = plain.querySelector('.field-error');
    if (!refused) { showPlain(false, false); }
    clearCommits();
    Longshore.clear(ageBox);
    refs = { branches: [], tags: [] };
    follow();
    if (!project.value) { return; }
    say(refBox, text('js.picker.loading'));
    Longshore.request('GET', path(''), {}, function (error, answer) {
      if (turn !== asked) { return; }
      if (error) { return fallBack(error.message); }
      refs = answer;
      showAge();
      if (!refs.fetched_at && refs.fetching) { return say(refBox, text('js.picker.first')); }
      show();
    });
  }

  function show() {
    var refused = plain.querySelector('.field-error');
    // What was refused stays in sight, to be corrected.
    if (!refused && !refField.value && !commitField.value) { refField.value = preferred(); }
    kind = guessKind();
    showRefs();
    if (refused) { showPlain(refField.hasAttribute('aria-invalid'), kind === 'commit' || commitField.hasAttribute('aria-invalid')); }
  }

  picker.className = 'picker';
  picker.appendChild(ageBox);
  picker.appendChild(refBox);
  picker.appendChild(commitBox);
  project.addEventListener('change', function () {
    refField.value = '';
    commitField.value = '';
    load();
  });
  // A chosen commit is what is sent: the branch only led to it.
  project.form.addEventListener('submit', function () { refField.disabled = !!commitField.value; });
  window.addEventListener('pageshow', function () { refField.disabled = false; });
  load();
}());
