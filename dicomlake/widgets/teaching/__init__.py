"""Teaching: a quiz over series, whose answers the browser does not hold before they are shown."""

from dicomlake.widgets.teaching.asking import quiz_from
from dicomlake.widgets.teaching.questions import NOTHING, Question, Region
from dicomlake.widgets.teaching.quiz import Quiz

__all__ = ["NOTHING", "Question", "Quiz", "Region", "quiz_from"]
