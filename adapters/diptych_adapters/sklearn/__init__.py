"""scikit-learn: any dense or sparse encoder as a step of a `Pipeline`. Needs `pip install 'diptych[sklearn]'`.

Begin with `vectorizer`, which has the one class, `EncoderVectorizer`.
"""

try:
    import sklearn as _sklearn  # noqa: F401  # absolute, so it is scikit-learn
except ModuleNotFoundError as error:
    from diptych.errors import MissingExtra

    raise MissingExtra("this needs scikit-learn", got=str(error), do="pip install 'diptych[sklearn]'") from error

from diptych_adapters.sklearn.vectorizer import EncoderVectorizer

__all__ = ["EncoderVectorizer"]
