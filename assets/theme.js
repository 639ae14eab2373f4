/* The theme's switch without a reload. The cookie is read by the server, so no page flashes. */
(function () {
  'use strict';
  var form = document.querySelector('form[data-switch="theme"]');
  if (!form) { return; }

  function choose(theme) {
    var root = document.documentElement;
    if (theme === 'auto') { root.removeAttribute('data-theme'); } else { root.setAttribute('data-theme', theme); }
    document.cookie = 'theme=' + theme + '; path=/; max-age=31536000; samesite=lax';
    Array.prototype.forEach.call(form.querySelectorAll('button'), function (button) {
      button.setAttribute('aria-pressed', String(button.value === theme));
    });
  }

  Array.prototype.forEach.call(form.querySelectorAll('button'), function (button) {
    button.addEventListener('click', function (event) {
      event.preventDefault();
      choose(button.value);
    });
  });
}());
