/* A question in a dialog. Pages that ask without scripts have a page of their own for it. */
(function () {
  'use strict';
  var element = Longshore.element;

  /* options: {title, text, confirm: the button's text, danger}; chosen(dialog) runs on confirmation, and ends
     the dialog by dialog.close(), or keeps it open with dialog.fail(message). */
  Longshore.ask = function (options, chosen) {
    var before = document.activeElement;
    var yes = element('button', { type: 'button', 'class': 'button ' + (options.danger ? 'danger' : 'primary'), text: options.confirm });
    var no = element('button', { type: 'button', 'class': 'button quiet', text: Longshore.text('js.dialog.cancel') });
    var problem = element('div', { role: 'alert' });
    var box = element('div', { 'class': 'dialog', role: 'alertdialog', 'aria-modal': 'true', 'aria-labelledby': 'dialog-title', 'aria-describedby': 'dialog-text' }, [
      element('h2', { id: 'dialog-title', text: options.title }),
      element('p', { id: 'dialog-text', text: options.text || '' }),
      problem,
      element('div', { 'class': 'actions' }, [no, yes])
    ]);
    var veil = element('div', { 'class': 'veil' }, [box]);

    var dialog = {
      close: function () {
        document.removeEventListener('keydown', onKey, true);
        if (veil.parentNode) { veil.parentNode.removeChild(veil); }
        if (before && before.focus && document.documentElement.contains(before)) { before.focus(); }
      },
      fail: function (message) {
        yes.disabled = false;
        Longshore.clear(problem);
        problem.appendChild(element('p', { 'class': 'notice is-error', text: message }));
        no.focus();
      }
    };

    function onKey(event) {
      if (event.keyCode === 27) {
        dialog.close();
      } else if (event.keyCode === 9) {             // two buttons: Tab goes from one to the other
        event.preventDefault();
        (document.activeElement === no && !yes.disabled ? yes : no).focus();
      }
    }

    yes.addEventListener('click', function () {
      yes.disabled = true;
      chosen(dialog);
    });
    no.addEventListener('click', dialog.close);
    veil.addEventListener('mousedown', function (event) { if (event.target === veil) { dialog.close(); } });
    document.addEventListener('keydown', onKey, true);
    document.body.appendChild(veil);
    (options.danger ? no : yes).focus();
    return dialog;
  };

  /* Forms with data-confirm ask first. */
  document.addEventListener('submit', function (event) {
    var form = event.target;
    var question = form.getAttribute('data-confirm');
    if (!question) { return; }
    event.preventDefault();
    var button = form.querySelector('button[type="submit"]');
    Longshore.ask({ title: button.textContent, text: question, confirm: button.textContent }, function () {
      form.submit();
    });
  });
}());
