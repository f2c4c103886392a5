"""The page that a person opens in a browser: what the suite does now, and a hand on it.

- `page`: the document, from what the API says; the handler of ``/``
- `endpoints`: the card of an endpoint
- `details`: what a card does not show
- `tables`: the connections of an endpoint, and the gallery's list
- `panels`: the suite as a whole: state, totals, reasons, certificates, events, reloads
- `controls`: what scripts make copies of
- `binding`: numbers that know where in the API they come from
- `wording`: numbers, sizes and durations for people
- `markup`: elements, in which every text is escaped
- `assets`: the style sheets, the scripts and the icon, in ``static/``

It can be read without scripts. With them it is live: they ask the API each second, and change what the
document already shows, so that nothing is drawn in two ways.
"""
