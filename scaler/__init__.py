"""Keeps the right number of inference replicas running on Azure Container Instances.

Reading order: ``model`` (the nouns), ``config`` (what an operator writes), ``observe`` (what was seen), ``decide``
(how many), ``plan`` (what to do about it), ``tick`` (one pass). Those, with ``foresight``, ``signals``,
``schedule`` and ``errors``, are pure, but for ``tick``: no clock, no network, no environment. ``ports`` says what a
tick needs of the world; ``azure`` gives it; ``web`` and ``__main__`` are its doors; ``front`` is what requests meet.
"""
