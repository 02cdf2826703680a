"""English words that say nothing of a topic, by kind."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = _words("a an the my your our their every")
CONJUNCTIONS = _words("and or but because than although whereas")
PREPOSITIONS = _words("of in from with at by for into onto to upon during")
STRANDED = _words("in with at by for to")
"""Prepositions that may stand alone: what to look for is …"""
AUXILIARIES = _words("is are was were am has have had do does did would should could might")
PRONOUNS = _words("i you he she it we they them him us me these those this")
_OTHERS = _words(
    """about above after again all also always any anything as away be been before being below best better between both
    can come describe down each else even ever explain few first get give go good help her here hers herself himself his
    how however if its itself just let like lot lots made make makes making many may more most much must myself need
    never no nor not nothing now off often on once one only other others out over own perhaps please put quite
    rather really same say see shall so some someone something sometimes still such suggest take tell that theirs
    themselves then there thing things think through too try two under until up use used using very want way ways
    well what when where whether which while who whom whose why will within without yes yet yourself"""
)
FUNCTION_WORDS = ARTICLES | CONJUNCTIONS | PREPOSITIONS | AUXILIARIES | PRONOUNS | _OTHERS
