"""Images with text, in the layouts of COCO captions and VQAv2: what a policy is co-trained on and evaluated with."""

from rf_agent.demos.vision_language.captions import CaptionSet
from rf_agent.demos.vision_language.images import ImageReader
from rf_agent.demos.vision_language.prompts import PROMPTS, Pair, Prompts
from rf_agent.demos.vision_language.questions import Question, QuestionSet

__all__ = ["PROMPTS", "CaptionSet", "ImageReader", "Pair", "Prompts", "Question", "QuestionSet"]
